"""The files of DISK's release: one HDF5 file a kind, keyed by image names without extension.

``keypoints.h5`` (N, 2) float32 x and y; ``descriptors.h5`` (N, 128) float32 or float16;
``scores.h5`` (N,) float32; ``matches.h5``, a group of the first image and in it a dataset of the
second, (2, K) int64 or uint16 indices. They are written in HDF5's earliest form, which old
libraries read as well.

A keypoint's coordinates are those of a pixel of the resized photo, divided by the scale: n s, with
s the size of a resized pixel in pixels of the photo and n = 0, 1, 2, ... The centre of that pixel
lies at (n + 0.5) s - 0.5, if (0, 0) is the centre of the photo's top-left pixel: the released
coordinates are (s - 1) / 2 off it.
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

# On the keypoints of an image: s.
PIXEL_SIZE_ATTRIBUTE = "pixel_size"
LIBVER = "earliest"
# A released coordinate is a multiple of s up to float32's rounding.
_GRID_TOLERANCE = 0.02
_GRID_KEYPOINTS = 30


def path_of(folder: Path, kind: str) -> Path:
    """The file of a kind: ``keypoints``, ``descriptors``, ``scores``, ``matches``."""
    return folder / f"{kind}.h5"


def names_of(path: Path) -> list[str]:
    """The images of a file, sorted.

    Raises:
        DiskHlocError: no such file, or no HDF5 file.
    """
    with reading(path) as file:
        return sorted(require_relative(name, path) for name, _ in members(file))


@contextmanager
def reading_arrays(path: Path) -> Iterator[h5py.File]:
    """Open a file of arrays, one an image.

    Raises:
        DiskHlocError: no such file, no HDF5 file, or it has groups, as hloc's files have.
    """
    with reading(path) as file:
        for name, item in members(file):
            if not isinstance(item, h5py.Dataset):
                raise DiskHlocError(
                    f"{path} is not of DISK's release, which has an array an image: {name} is a "
                    "group (disk-hloc convert reads hloc's files)"
                )
            require_relative(name, path)
        yield file


def array_entry(
    kind: str, name: str, array: np.ndarray, pixel_size: float
) -> tuple[str, list[Dataset]]:
    """An image in the file of a kind, as :meth:`disk_hloc.io.store.store.Store.add` takes it.

    Args:
        kind: of the file.
        name: of the image, without extension.
        array: of that kind.
        pixel_size: s, see above; it is kept with the keypoints.
    """
    attributes = {PIXEL_SIZE_ATTRIBUTE: pixel_size} if kind == "keypoints" else {}
    return name, [Dataset(name, array, attributes)]


def require_ours(paths: Iterable[Path]) -> None:
    """Check that files which are to be added to were not made by another program.

    Raises:
        DiskHlocError: one was; what it was made with is unknown.
    """
    for path in paths:
        if not path.exists():
            continue
        with reading(path) as file:
            if len(file) and CONF_ATTRIBUTE not in file.attrs:
                raise DiskHlocError(
                    f"{path} was made by another program, with options that are not known: use "
                    "--overwrite to start anew, or give another folder"
                )


def find_images(image_dir: Path, names: Iterable[str], extension: str) -> dict[str, str]:
    """Name without extension -> file name.

    Args:
        image_dir: a folder; those below it are not searched.
        names: without extension.
        extension: with or without its dot.

    Raises:
        DiskHlocError: some are not there.
    """
    found = {name: name + dotted(extension) for name in names}
    missing = [file for file in found.values() if not (image_dir / file).is_file()]
    if missing:
        raise DiskHlocError(
            f"{image_dir} lacks {len(missing)} of the images: {listing(missing)}; give their "
            "folder, and their extension with --image-extension"
        )
    return found


def dotted(extension: str) -> str:
    """An extension with its dot; the release's scripts do not agree whether it has one."""
    return "." + extension.removeprefix(".")


def pixel_size(file: h5py.File, name: str) -> float:
    """s of an image's keypoints: as noted with them, else as they lie; 1 if that does not tell.

    Raises:
        DiskHlocError: as :func:`read_keypoints`, or it is noted as no number.
    """
    values, item = read_keypoints(file, name), find(file, name)
    if item is None or attribute(item, PIXEL_SIZE_ATTRIBUTE) is None:
        return grid_spacing(values)
    return number_attribute(item, PIXEL_SIZE_ATTRIBUTE, 1.0)


def grid_spacing(keypoints: np.ndarray) -> float:
    """The s of which all coordinates are multiples; 1 where there is none, or too few to tell.

    Args:
        keypoints: (N, 2) x and y in pixels.
    """
    values = np.unique(keypoints.astype(np.float64))
    gaps = np.diff(values)
    # Equal ones may differ by float32's rounding.
    gaps = gaps[gaps > 0.01]
    if len(keypoints) < _GRID_KEYPOINTS or len(gaps) == 0:
        return 1.0
    spacing = float(gaps.min())
    # The further from zero, the more digits of s a coordinate tells.
    for limit in np.geomspace(10, max(values[-1] / spacing, 10), 8):
        near = values[values <= limit * spacing]
        index = np.round(near / spacing)
        if index.any():
            spacing = float((index * near).sum() / np.square(index).sum())
    steps = values / spacing
    if np.abs(steps - np.round(steps)).max() > _GRID_TOLERANCE:
        return 1.0
    # To float32's digits: the integers of a photo that was not resized are just that.
    return 1.0 if abs(spacing - 1) < 1e-6 else spacing


def read_keypoints(file: h5py.File, name: str) -> np.ndarray:
    """(N, 2) keypoints of an image of an open keypoints file, as they are stored.

    Raises:
        DiskHlocError: they are missing, not (N, 2), or not finite.
    """
    return read(file, name, (None, 2))


def read_centered(file: h5py.File, name: str) -> np.ndarray:
    """(N, 2) float64 keypoints with (0, 0) at the centre of the photo's top-left pixel.

    Args:
        file: an open keypoints file.
        name: of the image, without extension.

    Raises:
        DiskHlocError: as :func:`read_keypoints`.
    """
    values = read_keypoints(file, name).astype(np.float64)
    moved: np.ndarray = values + (pixel_size(file, name) - 1) / 2
    return moved


def list_pairs(file: h5py.File) -> Iterator[tuple[str, str]]:
    """The pairs of an open matches file.

    Raises:
        DiskHlocError: it is not a matches file of DISK's release.
    """
    for first, group in members(file):
        if not isinstance(group, h5py.Group):
            raise DiskHlocError(
                f"{file.filename} is not of DISK's release, which has a group for each first image"
            )
        for second, _ in members(group):
            yield first, second


def require_names(file: h5py.File, pair: Iterable[str], names: Container[str]) -> None:
    """Check that both images of a pair are among ``names``, those with keypoints.

    Raises:
        DiskHlocError: one is not.
    """
    absent = [name for name in pair if name not in names]
    if absent:
        raise DiskHlocError(f"{file.filename} has matches of {absent[0]}, which has no keypoints")


def read_matches(file: h5py.File, name0: str, name1: str, count0: int, count1: int) -> np.ndarray:
    """(2, K) indices of one pair, as they are stored.

    Args:
        file: an open matches file.
        name0, name1: the images.
        count0, count1: how many keypoints they have.

    Raises:
        DiskHlocError: not (2, K), or an index is beyond the keypoints.
    """
    found = find(file, f"{name0}/{name1}")
    matches = read_values(found) if isinstance(found, h5py.Dataset) else np.zeros(0)
    check_matches(matches, f"{file.filename}, {name0} {name1}", count0, count1)
    return matches


def check_matches(matches: np.ndarray, where: str, count0: int, count1: int) -> None:
    """Check that matches are (2, K) integers that count so many keypoints.

    Raises:
        DiskHlocError: they are not; the message begins with ``where``.
    """
    if matches.ndim != 2 or len(matches) != 2 or matches.dtype.kind not in "iu":
        raise DiskHlocError(
            f"{where}: {matches.dtype} of shape {matches.shape}, but matches are (2, K) integers"
        )
    counts = np.array([[count0], [count1]])
    if matches.size and (matches.min() < 0 or (matches.astype(np.int64) >= counts).any()):
        raise DiskHlocError(
            f"{where}: an index is beyond the {count0} and {count1} keypoints: these matches "
            "were made from other features"
        )
