"""Draw keypoints and matches, as view_h5.py of DISK's release does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageShow

from disk_hloc.choices import VIEW_MODES
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import release as files
from disk_hloc.io.outputs import require_output_folder
from disk_hloc.io.store import reading
from disk_hloc.log import logger
from disk_hloc.report.drawing import (
    draw_dots,
    draw_lines,
    read_photo,
    save_picture,
    side_by_side,
    to_image,
)

MARK_COLOR = (255, 255, 255)
EDGE_COLOR = (0, 0, 0)
LINE_COLOR = (0, 128, 0)


def main(
    h5_dir: Path,
    image_dir: Path,
    mode: str,
    *,
    image_extension: str = "jpg",
    save: Path | None = None,
) -> list[Path]:
    """Draw the keypoints of each image, or the matches of each pair.

    Args:
        h5_dir: with ``keypoints.h5``, and ``matches.h5`` for matches.
        image_dir: the photos.
        mode: ``keypoints`` or ``matches``.
        image_extension: of the photos.
        save: a folder for ``1.png``, ``2.png``, ... in the order of the files' images or pairs,
            which the log names; None shows the pictures one after the other.

    Returns:
        The pictures written.

    Raises:
        DiskHlocError: an unknown mode, a file is missing or broken, or no program shows pictures.
    """
    if mode not in VIEW_MODES:
        raise DiskHlocError(f"no mode is called {mode!r}; known: {', '.join(VIEW_MODES)}")
    if save is not None:
        require_output_folder(save.expanduser(), {"photos": image_dir, "files": h5_dir})
    draw = _keypoint_pictures if mode == "keypoints" else _match_pictures
    written: list[Path] = []
    for title, picture in draw(h5_dir, image_dir, image_extension):
        if save is None:
            if not ImageShow.show(picture, title):
                raise DiskHlocError("no program here shows pictures: write them with --save FOLDER")
            continue
        folder = save.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{len(written) + 1}.png"
        save_picture(picture, path)
        logger.info("%s: %s", path, title)
        written.append(path)
    return written


def picture_of_keypoints(photo: np.ndarray, keypoints: np.ndarray) -> Image.Image:
    """Draw a photo with a white dot, edged in black, on each keypoint.

    Args:
        photo: (H, W, 3) uint8 RGB.
        keypoints: (N, 2) x and y in pixels, (0, 0) at the centre of the top-left pixel.
    """
    picture = to_image(photo)
    draw_dots(ImageDraw.Draw(picture), keypoints, MARK_COLOR, _radius(photo), EDGE_COLOR)
    return picture


def picture_of_matches(
    photo0: np.ndarray, photo1: np.ndarray, keypoints0: np.ndarray, keypoints1: np.ndarray
) -> Image.Image:
    """Draw two photos side by side, with a green line for each match and dots at its ends.

    Args:
        photo0, photo1: (H, W, 3) uint8 RGB.
        keypoints0, keypoints1: (K, 2) x and y of the matches, as :func:`picture_of_keypoints`.
    """
    picture, (_, left) = side_by_side([to_image(photo0), to_image(photo1)])
    canvas = ImageDraw.Draw(picture)
    shifted = keypoints1 + np.array([left, 0])
    draw_lines(canvas, keypoints0, shifted, LINE_COLOR)
    ends = np.concatenate([keypoints0, shifted])
    draw_dots(canvas, ends, MARK_COLOR, max(_radius(photo0), _radius(photo1)), EDGE_COLOR)
    return picture


def _keypoint_pictures(
    h5_dir: Path, image_dir: Path, extension: str
) -> Iterator[tuple[str, Image.Image]]:
    with files.reading_arrays(files.path_of(h5_dir, "keypoints")) as keypoints:
        for name, file in files.find_images(image_dir, keypoints, extension).items():
            photo = read_photo(image_dir / file)
            yield name, picture_of_keypoints(photo, files.read_centered(keypoints, name))


def _match_pictures(
    h5_dir: Path, image_dir: Path, extension: str
) -> Iterator[tuple[str, Image.Image]]:
    with (
        files.reading_arrays(files.path_of(h5_dir, "keypoints")) as keypoints,
        reading(files.path_of(h5_dir, "matches")) as matches,
    ):
        images = files.find_images(image_dir, keypoints, extension)
        for pair in files.list_pairs(matches):
            files.require_names(matches, pair, images)
            xy0, xy1 = (files.read_centered(keypoints, name) for name in pair)
            index = files.read_matches(matches, *pair, len(xy0), len(xy1))
            photo0, photo1 = (read_photo(image_dir / images[name]) for name in pair)
            picture = picture_of_matches(photo0, photo1, xy0[index[0]], xy1[index[1]])
            yield " - ".join(pair), picture


def _radius(photo: np.ndarray) -> float:
    return max(2.0, max(photo.shape) / 400)
