"""The files of HPatches: photos of a plane, and the homographies between them.

Balntas, Lenc, Vedaldi, Mikolajczyk, "HPatches: A benchmark and evaluation of handcrafted and
learned local descriptors", CVPR 2017. A scene is a folder ``i_<name>`` (the light changes) or
``v_<name>`` (the viewpoint changes) with ``1.ppm`` to ``6.ppm`` and ``H_1_2`` to ``H_1_6``, text
files of (3, 3) homographies that take pixels of the first photo to those of the other, (0, 0) at
the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.text import read_text

KINDS = ("illumination", "viewpoint")
# D2-Net leaves them out: their photos are too large for some methods.
LEFT_OUT = (
    "i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding",
    "v_artisans", "v_astronautis", "v_talent",
)  # fmt: skip
# Of the photos that are paired with the first one of a scene.
NUMBERS = range(2, 7)


def read_scenes(folder: Path, without: Collection[str] = LEFT_OUT) -> dict[Pair, np.ndarray]:
    """Read the pairs of a data set and their homographies.

    Args:
        folder: of scenes ``i_*`` and ``v_*``.
        without: scenes to leave out.

    Returns:
        ``("i_ajuntament/1.ppm", "i_ajuntament/2.ppm")`` -> (3, 3) float64, ``1_to_2``, scene by
        scene.

    Raises:
        DiskHlocError: the folder is missing or has no scene, or a scene is not complete.
    """
    if not folder.is_dir():
        raise DiskHlocError(f"folder not found: {folder}")
    scenes = sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name[:2] in ("i_", "v_") and path.name not in without
    )
    if not scenes:
        raise DiskHlocError(
            f"{folder} has no scene: folders i_* or v_* with 1.ppm to 6.ppm and H_1_2 to H_1_6; "
            "give the folder of HPatches' sequences"
        )
    missing = [
        f"{scene.name}/{number}.ppm"
        for scene in scenes
        for number in (1, *NUMBERS)
        if not (scene / f"{number}.ppm").is_file()
    ]
    if missing:
        raise DiskHlocError(f"{folder}: missing {listing(missing)}; unpack HPatches again")
    return {
        (f"{scene.name}/1.ppm", f"{scene.name}/{number}.ppm"): read_homography(
            scene / f"H_1_{number}"
        )
        for scene in scenes
        for number in NUMBERS
    }


def read_homography(path: Path) -> np.ndarray:
    """Read a (3, 3) float64 homography from a text file.

    Raises:
        DiskHlocError: the file cannot be read, or is not an invertible matrix of that shape.
    """
    try:
        matrix = np.array(read_text(path, "the homography").split(), np.float64)
    except ValueError as error:
        raise DiskHlocError(f"cannot read the homography {path}: {error}") from error
    if matrix.size != 9 or not np.isfinite(matrix).all():
        matrix = np.zeros(9)
    if not np.linalg.det(matrix.reshape(3, 3)):
        raise DiskHlocError(
            f"{path} is not a homography: expected the 9 numbers of an invertible matrix"
        )
    return matrix.reshape(3, 3)


def kind_of(pair: Pair) -> str:
    """Return ``illumination`` or ``viewpoint``, by the scene's name."""
    return KINDS[0] if pair[0].startswith("i_") else KINDS[1]
