"""hloc's file of global descriptors: an HDF5 group for each image name, and the codebook beside it.

``global_descriptor`` (D,) of unit length, or zero where an image has no features. hloc's own
models store it in float16, ours in float32.
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
# What numpy raises of an archive that is broken, beyond what parsers raise.
_ARCHIVE_ERRORS = (tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def global_entry(name: str, descriptor: np.ndarray) -> tuple[str, list[Dataset]]:
    """An image as :meth:`disk_hloc.io.store.store.Store.add` takes it.

    Args:
        name: the image's name.
        descriptor: (D,).
    """
    return name, [Dataset(f"{name}/{KEY}", descriptor)]


def list_globals(path: Path) -> list[str]:
    """The names of the images that have a global descriptor, sorted.

    Raises:
        DiskHlocError: no such file, or no HDF5 file.
    """
    with reading(path) as file:
        return sorted(names_with(file, KEY))


def read_globals(file: h5py.File, names: Sequence[str]) -> np.ndarray:
    """Descriptors of some images of an open file.

    Returns:
        (N, D) float32 in the order of ``names``, of which there is at least one.

    Raises:
        DiskHlocError: they differ in length, or one is no vector or not finite.
    """
    length = length_of(file, names[0])
    descriptors = np.empty((len(names), length), np.float32)
    for row, name in zip(descriptors, names, strict=True):
        stored = read(file, f"{name}/{KEY}", (None,))
        if len(stored) != length:
            raise DiskHlocError(
                f"{file.filename}: the global descriptors of {names[0]} and {name} differ in "
                f"length ({length}, {len(stored)}), so two models made them: describe anew"
            )
        row[:] = stored
    return descriptors


def length_of(file: h5py.File, name: str) -> int:
    """D of the descriptor of an image of an open file.

    Raises:
        DiskHlocError: it is none.
    """
    stored = find(file, f"{name}/{KEY}")
    if not isinstance(stored, h5py.Dataset):
        raise DiskHlocError(f"{file.filename} has no global descriptor of {name}: describe anew")
    require_array(stored, (None,))
    if stored.size == 0:
        raise DiskHlocError(f"{file.filename}: the global descriptor of {name} has no length")
    return int(stored.size)


def codebook_path(path: Path) -> Path:
    """Where the codebook of a file of global descriptors is."""
    return path.with_name(f"{path.stem}.codebook.npz")


def write_codebook(path: Path, codebook: np.ndarray) -> None:
    """Write a codebook (K, D) as ``centres`` of an npz file; the file is whole or unchanged.

    Raises:
        DiskHlocError: the disk is full.
    """
    with replaced(path) as partial:
        require_space(path, codebook.nbytes)
        with partial.open("wb") as file:
            np.savez(file, centres=codebook)


def read_codebook(path: Path) -> np.ndarray:
    """A codebook, (K, D) float32.

    Raises:
        DiskHlocError: no such file, or it holds no codebook.
    """
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            codebook: np.ndarray = arrays["centres"].astype(np.float32)
    # What is no zip file is read as an array or a pickle, and has no names.
    except (*PARSER_ERRORS, MemoryError, *_ARCHIVE_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"cannot read the codebook {path}: {reason}; it is an .npz file with `centres`, as "
            "describing images writes it"
        ) from error
    if codebook.ndim != 2 or codebook.size == 0 or not np.isfinite(codebook).all():
        raise DiskHlocError(
            f"{path} holds no codebook: `centres` has shape {codebook.shape}, not clusters by "
            "descriptor length, or is not finite"
        )
    return codebook
