"""Bundler's files, version 0.3: Snavely, "Bundler v0.4 user's manual", 2009."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.io import colmap
from disk_hloc.io.replace import replace_text

from .source import Source, require_models, require_words

_MODELS = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
# Bundler's cameras look along -z, with y up.
_FLIPPED = np.diag([1.0, -1.0, -1.0])


def write(source: Source, folder: Path) -> None:
    """Write ``bundle.out``, and ``list.txt`` with the photos in its order.

    Pixels are counted from the principal point, with y up.

    Raises:
        DiskHlocError: a camera that Bundler does not know, or a name with white space.
    """
    require_models(source, _MODELS, "bundler")
    require_words(source, "bundler")
    replace_text(folder / "bundle.out", "\n".join(_lines(source)) + "\n")
    names = [image.name for image in source.images()]
    replace_text(folder / "list.txt", "".join(f"{name}\n" for name in names))


def _lines(source: Source) -> Iterator[str]:
    model, images = source.model, source.images()
    yield "# Bundle file v0.3"
    yield f"{len(images)} {model.num_points3D()}"
    for image in images:
        camera = model.cameras[image.camera_id]
        k1, k2 = [*camera.params[3:], 0.0, 0.0][:2]
        pose = colmap.to_pose(colmap.cam_from_world(image))
        yield _numbers([camera.focal_length, k1, k2])
        for row in (*(_FLIPPED @ pose.rotation), _FLIPPED @ pose.translation):
            yield _numbers(row)
    number_of = {image.image_id: number for number, image in enumerate(images)}
    for _, point in sorted(model.points3D.items()):
        yield _numbers(point.xyz)
        yield " ".join(str(int(value)) for value in point.color)
        seen = [_view(model, element, number_of) for element in point.track.elements]
        yield " ".join([str(len(seen)), *seen])


def _view(
    model: pycolmap.Reconstruction, element: pycolmap.TrackElement, number_of: dict[int, int]
) -> str:
    image = model.images[element.image_id]
    camera = model.cameras[image.camera_id]
    x, y = image.points2D[element.point2D_idx].xy
    place = _numbers([x - camera.principal_point_x, camera.principal_point_y - y])
    return f"{number_of[element.image_id]} {element.point2D_idx} {place}"


def _numbers(values: np.ndarray | list[float]) -> str:
    return " ".join(repr(float(value)) for value in values)
