"""Read and write the files of DISK's release: one HDF5 file per kind of data.

Image names have no extension. ``keypoints.h5`` holds (N, 2) float32 x and y, ``descriptors.h5``
(N, 128) float32 or float16, ``scores.h5`` (N,) float32. ``matches.h5`` has a group for each first
image, and in it a dataset for each second image, (2, K) int64 or uint16 indices. They are written
in HDF5's earliest format, which old libraries can read.

The coordinates of a keypoint are those of a pixel of the resized photo, divided by the scale: n s,
where s is the size of a resized pixel in pixels of the photo and n = 0, 1, 2, ... If (0, 0) is the
centre of the photo's top-left pixel, the centre of the resized pixel is at (n + 0.5) s - 0.5, so
the released coordinates are off by (s - 1) / 2.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.store import CONF_ATTRIBUTE, reading
from disk_hloc.io.store.hdf5 import attribute, find, members, number_attribute, read, read_values
from disk_hloc.io.store.journal import Dataset

from .names import require_relative

# Attribute of an image's keypoints that holds s.
PIXEL_SIZE_ATTRIBUTE = "pixel_size"
LIBVER = "earliest"
# A released coordinate is a multiple of s up to float32's rounding.
_GRID_TOLERANCE = 0.02
_GRID_KEYPOINTS = 30


def path_of(folder: Path, kind: str) -> Path:
    """Return the path of a file: ``keypoints``, ``descriptors``, ``scores`` or ``matches``."""
    return folder / f"{kind}.h5"


def names_of(path: Path) -> list[str]:
    """List the images of a file, sorted by name.

    Raises:
        DiskHlocError: the file does not exist or is not an HDF5 file.
    """
    with reading(path) as file:
        return sorted(require_relative(name, path) for name, _ in members(file))


@contextmanager
def reading_arrays(path: Path) -> Iterator[h5py.File]:
    """Open a file that holds one array per image.

    Raises:
        DiskHlocError: the file does not exist, is not an HDF5 file, or has groups, as hloc's files
            do.
    """
    with reading(path) as file:
        for name, item in members(file):
            if not isinstance(item, h5py.Dataset):
                raise DiskHlocError(
                    f"{path} is not in the format of DISK's release, which has one array per "
                    f"image: {name} is a group (disk-hloc convert reads hloc's files)"
                )
            require_relative(name, path)
        yield file


def array_entry(
    kind: str, name: str, array: np.ndarray, pixel_size: float
) -> tuple[str, list[Dataset]]:
    """Return the arguments of :meth:`disk_hloc.io.store.store.Store.add` for one image.

    Args:
        kind: kind of the file, as in :func:`path_of`.
        name: name of the image, without extension.
        array: the image's data of that kind.
        pixel_size: s, see above; it is stored with the keypoints.
    """
    attributes = {PIXEL_SIZE_ATTRIBUTE: pixel_size} if kind == "keypoints" else {}
    return name, [Dataset(name, array, attributes)]


def require_ours(paths: Iterable[Path]) -> None:
    """Check that the files to add to were not made by another program.

    Raises:
        DiskHlocError: a file was made by another program, so its options are unknown.
    """
    for path in paths:
        if not path.exists():
            continue
        with reading(path) as file:
            if len(file) and CONF_ATTRIBUTE not in file.attrs:
                raise DiskHlocError(
                    f"{path} was made by another program with unknown options: use --overwrite to "
                    "replace it, or use another folder"
                )


def find_images(image_dir: Path, names: Iterable[str], extension: str) -> dict[str, str]:
    """Map image names without extension to file names.

    Args:
        image_dir: the folder of the images; its subfolders are not searched.
        names: image names without extension.
        extension: extension with or without its dot.

    Raises:
        DiskHlocError: an image is not in the folder.
    """
    found = {name: name + dotted(extension) for name in names}
    missing = [file for file in found.values() if not (image_dir / file).is_file()]
    if missing:
        raise DiskHlocError(
            f"{len(missing)} images are not in {image_dir}: {listing(missing)}; give their folder, "
            "and their extension with --image-extension"
        )
    return found


def dotted(extension: str) -> str:
    """Add the dot to an extension; some of the release's scripts take it with a dot, some not."""
    return "." + extension.removeprefix(".")


def pixel_size(file: h5py.File, name: str) -> float:
    """Return s of an image's keypoints: as stored with them, otherwise :func:`grid_spacing`.

    Raises:
        DiskHlocError: the stored value is not a positive number; see also :func:`read_keypoints`.
    """
    values, item = read_keypoints(file, name), find(file, name)
    if item is None or attribute(item, PIXEL_SIZE_ATTRIBUTE) is None:
        return grid_spacing(values)
    return number_attribute(item, PIXEL_SIZE_ATTRIBUTE, 1.0)


def grid_spacing(keypoints: np.ndarray) -> float:
    """Estimate the s of which all coordinates are multiples; 1 without one, or if N is too small.

    Args:
        keypoints: (N, 2) x and y in pixels.

    Returns:
        s in pixels.
    """
    values = np.unique(keypoints.astype(np.float64))
    gaps = np.diff(values)
    # Equal coordinates may differ by float32's rounding.
    gaps = gaps[gaps > 0.01]
    if len(keypoints) < _GRID_KEYPOINTS or len(gaps) == 0:
        return 1.0
    spacing = float(gaps.min())
    # The larger a coordinate, the more precise the s that it gives.
    for limit in np.geomspace(10, max(values[-1] / spacing, 10), 8):
        near = values[values <= limit * spacing]
        index = np.round(near / spacing)
        if index.any():
            spacing = float((index * near).sum() / np.square(index).sum())
    steps = values / spacing
    if np.abs(steps - np.round(steps)).max() > _GRID_TOLERANCE:
        return 1.0
    # Integers up to float32's precision come from a photo that was not resized.
    return 1.0 if abs(spacing - 1) < 1e-6 else spacing


def read_keypoints(file: h5py.File, name: str) -> np.ndarray:
    """Read the (N, 2) keypoints of an image from an open keypoints file, as they are stored.

    Raises:
        DiskHlocError: the keypoints are missing, not (N, 2), or not finite.
    """
    return read(file, name, (None, 2))


def read_centered(file: h5py.File, name: str) -> np.ndarray:
    """Read keypoints in pixels, with (0, 0) at the centre of the photo's top-left pixel.

    Args:
        file: an open keypoints file.
        name: name of the image, without extension.

    Returns:
        (N, 2) float64.

    Raises:
        DiskHlocError: see :func:`read_keypoints` and :func:`pixel_size`.
    """
    values = read_keypoints(file, name).astype(np.float64)
    moved: np.ndarray = values + (pixel_size(file, name) - 1) / 2
    return moved


def list_pairs(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Yield the pairs of an open matches file.

    Raises:
        DiskHlocError: the file is not a matches file of DISK's release.
    """
    for first, group in members(file):
        if not isinstance(group, h5py.Group):
            raise DiskHlocError(
                f"{file.filename} is not in the format of DISK's release, which has a group for "
                "each first image"
            )
        for second, _ in members(group):
            yield first, second


def require_names(file: h5py.File, pair: Iterable[str], names: Container[str]) -> None:
    """Check that both images of a pair are in ``names``, the images with keypoints.

    Raises:
        DiskHlocError: one of the images is not in ``names``.
    """
    absent = [name for name in pair if name not in names]
    if absent:
        raise DiskHlocError(f"{file.filename} has matches for {absent[0]}, which has no keypoints")


def read_matches(file: h5py.File, name0: str, name1: str, count0: int, count1: int) -> np.ndarray:
    """Read the (2, K) indices of one pair, as they are stored.

    Args:
        file: an open matches file.
        name0, name1: the images.
        count0, count1: their numbers of keypoints.

    Raises:
        DiskHlocError: the matches are not (2, K) integers, or an index is out of range.
    """
    found = find(file, f"{name0}/{name1}")
    matches = read_values(found) if isinstance(found, h5py.Dataset) else np.zeros(0)
    check_matches(matches, f"{file.filename}, {name0} {name1}", count0, count1)
    return matches


def check_matches(matches: np.ndarray, where: str, count0: int, count1: int) -> None:
    """Check that matches are (2, K) integers in the ranges of the keypoints.

    Args:
        matches: the array to check.
        where: the beginning of the error message.
        count0, count1: the numbers of keypoints of the two images.

    Raises:
        DiskHlocError: the matches are not (2, K) integers, or an index is out of range.
    """
    if matches.ndim != 2 or len(matches) != 2 or matches.dtype.kind not in "iu":
        raise DiskHlocError(
            f"{where}: expected (2, K) integers, found {matches.dtype} of shape {matches.shape}"
        )
    counts = np.array([[count0], [count1]])
    if matches.size and (matches.min() < 0 or (matches.astype(np.int64) >= counts).any()):
        raise DiskHlocError(
            f"{where}: an index exceeds the {count0} and {count1} keypoints: these matches were "
            "made from other features"
        )
