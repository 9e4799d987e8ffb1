"""The picture of an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from disk_hloc.report import localization_picture
from disk_hloc.report.drawing import read_photo
from disk_hloc.report.localization_picture import InMap, Panel

from .localizer import Localizer
from .result import Localization


def draw(
    output: Path,
    localizer: Localizer,
    name: str,
    photo: Path,
    answer: Localization,
    images: Path | None = None,
) -> Path:
    """Draw a photo beside the photo of the map that it shares most with, and the map from above.

    Args:
        output: the PNG file to write.
        localizer: of the map.
        name: of the photo.
        photo: its file.
        answer: where it is, with its correspondences.
        images: the folder of the map's photos; without it their thumbnails are drawn.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: a photo cannot be read.
    """
    index, found = localizer.index, answer.correspondences
    pixels = read_photo(photo)
    height, width = pixels.shape[:2]
    keypoints, places = (np.zeros((0, 2), np.float32) for _ in range(2))
    seen, inliers = np.zeros((0, 3)), np.zeros(0, bool)
    # The photo with the most inliers; without any, the one with the most matches.
    best = max(
        range(len(answer.retrieved)),
        key=lambda i: (answer.retrieved[i].inliers, answer.retrieved[i].matches),
        default=None,
    )
    if found is not None and best is not None:
        of_best = found.images == best
        keypoints, places = found.keypoints[of_best], found.places[of_best]
        inliers = found.inliers[of_best] & answer.localized
        seen = found.xyz[found.inliers]
    beside = None
    if best is not None:
        other = answer.retrieved[best].name
        i = list(index.names).index(other)
        file = localizer.map.thumbnail(other) if images is None else images / other
        size = int(index.sizes[i, 0]), int(index.sizes[i, 1])
        beside = Panel(read_photo(file), size, int(index.turns[i]), places)
    in_map = InMap(
        index,
        answer.pose,
        {one.name for one in answer.retrieved if one.inliers} if answer.localized else set(),
        seen,
        metric=localizer.frame is not None,
    )
    title = name if best is None else f"{name}, beside {answer.retrieved[best].name} of the map"
    return localization_picture.draw(
        output,
        [title, str(answer)],
        Panel(pixels, (width, height), answer.turn // 90, keypoints),
        beside,
        inliers,
        in_map,
    )
