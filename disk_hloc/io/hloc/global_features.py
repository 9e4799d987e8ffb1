"""Read and write hloc's file of global descriptors, and the codebook next to it.

The HDF5 file has one group per image name with ``global_descriptor`` (D,) of unit length, or zero
for an image without features. hloc's own models store it in float16, ours in float32.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.io.replace import replaced
from disk_hloc.io.store import reading, require_space
from disk_hloc.io.store.hdf5 import find, names_with, read, require_array
from disk_hloc.io.store.journal import Dataset

KEY = "global_descriptor"
# What numpy raises for broken archives, in addition to what parsers raise.
_ARCHIVE_ERRORS = (tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def global_entry(name: str, descriptor: np.ndarray) -> tuple[str, list[Dataset]]:
    """Return the arguments of :meth:`disk_hloc.io.store.store.Store.add` for one image.

    Args:
        name: name of the image.
        descriptor: (D,) global descriptor.
    """
    return name, [Dataset(f"{name}/{KEY}", descriptor)]


def list_globals(path: Path) -> list[str]:
    """List the names of the images that have a global descriptor, sorted.

    Raises:
        DiskHlocError: the file does not exist or is not an HDF5 file.
    """
    with reading(path) as file:
        return sorted(names_with(file, KEY))


def read_globals(file: h5py.File, names: Sequence[str]) -> np.ndarray:
    """Read the descriptors of some images from an open file.

    Args:
        file: an open file of global descriptors.
        names: N images, at least one.

    Returns:
        (N, D) float32 in the order of ``names``.

    Raises:
        DiskHlocError: a descriptor is missing, is not a finite vector, or the lengths differ.
    """
    length = length_of(file, names[0])
    descriptors = np.empty((len(names), length), np.float32)
    for row, name in zip(descriptors, names, strict=True):
        stored = read(file, f"{name}/{KEY}", (None,))
        if len(stored) != length:
            raise DiskHlocError(
                f"{file.filename}: the global descriptors of {names[0]} and {name} differ in "
                f"length ({length}, {len(stored)}), so different models made them: describe the "
                "images again"
            )
        row[:] = stored
    return descriptors


def length_of(file: h5py.File, name: str) -> int:
    """Return the length D of the descriptor of an image in an open file.

    Raises:
        DiskHlocError: the descriptor is missing, empty, or not a vector.
    """
    stored = find(file, f"{name}/{KEY}")
    if not isinstance(stored, h5py.Dataset):
        raise DiskHlocError(
            f"{file.filename} has no global descriptor of {name}: describe the images again"
        )
    require_array(stored, (None,))
    if stored.size == 0:
        raise DiskHlocError(f"{file.filename}: the global descriptor of {name} is empty")
    return int(stored.size)


def codebook_path(path: Path) -> Path:
    """Return the path of the codebook that belongs to a file of global descriptors."""
    return path.with_name(f"{path.stem}.codebook.npz")


def write_codebook(path: Path, codebook: np.ndarray, learnt_from: str = "") -> None:
    """Write a codebook (K, D) as ``centres`` of an npz file, which is complete or unchanged.

    Args:
        path: the file.
        codebook: (K, D).
        learnt_from: digest of the features that it was learnt from, if it is known.

    Raises:
        DiskHlocError: the disk is full.
    """
    with replaced(path) as partial:
        require_space(path, codebook.nbytes)
        with partial.open("wb") as file:
            np.savez(file, centres=codebook, learnt_from=np.array(learnt_from))


def read_learnt_from(path: Path) -> str:
    """Return the digest of what a codebook was learnt from; empty if the file does not say."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return str(arrays["learnt_from"])
    except (*PARSER_ERRORS, MemoryError, *_ARCHIVE_ERRORS):
        return ""


def read_codebook(path: Path) -> np.ndarray:
    """Read a codebook, (K, D) float32.

    Raises:
        DiskHlocError: the file does not exist, or is not a codebook.
    """
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            codebook: np.ndarray = arrays["centres"].astype(np.float32)
    # numpy reads a file that is not a zip archive as an array or a pickle, which has no names.
    except (*PARSER_ERRORS, MemoryError, *_ARCHIVE_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"cannot read the codebook {path}: {reason}; expected an .npz file with `centres`, as "
            "written when describing images"
        ) from error
    if codebook.ndim != 2 or codebook.size == 0 or not np.isfinite(codebook).all():
        raise DiskHlocError(
            f"{path} is not a codebook: expected finite `centres` of shape (clusters, descriptor "
            f"length), found shape {codebook.shape}"
        )
    return codebook
