"""Published results on HPatches, in the format of D2-Net's evaluation.

Dusmanu, Rocco, Pajdla, Pollefeys, Sivic, Torii, Sattler, "D2-Net: A trainable CNN for joint
description and detection of local features", CVPR 2019. A ``.npy`` file with three objects: the
illumination's and the viewpoint's ``{threshold: sum over pairs of the share of correct matches}``,
and ``[kind of each pair, keypoints of each image, matches of each pair]``. Such a file is a pickle,
which could run any code: only numpy's arrays and numbers are loaded here.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.hpatches import KINDS

from .hpatches import Figures, mma_score, rounded
from .planes import THRESHOLDS_PX


def read(path: Path) -> Figures:
    """Read the figures that a published cache has.

    Args:
        path: a ``.npy`` file.

    Returns:
        ``keypoints`` (mean of an image), ``matches`` (mean of a pair), ``pairs``, ``mma`` and
        ``mma_score`` as :func:`disk_hloc.eval.hpatches.evaluate` gives them.

    Raises:
        DiskHlocError: the file cannot be read, has another content, or asks for types other than
            numpy's.
    """
    try:
        with path.open("rb") as file:
            illumination, viewpoint, (kinds, keypoints, matches) = _load(file)
        kinds = np.asarray(kinds).astype(str)
        counts = {kind: int((kinds == kind[0]).sum()) for kind in KINDS}
        sums = {
            kind: np.array([float(errors[threshold]) for threshold in THRESHOLDS_PX])
            for kind, errors in zip(KINDS, (illumination, viewpoint), strict=True)
        }
        means = float(np.mean(keypoints)), float(np.mean(matches))
    except DiskHlocError as error:
        raise DiskHlocError(f"{path}: {error}") from error
    except OSError as error:
        raise DiskHlocError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a broken pickle can raise anything
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"{path} is not a cache of HPatches results, [i_err, v_err, [kinds, keypoints, "
            f"matches]] ({type(error).__name__}: {reason}): give another file"
        ) from error
    counts["all"] = sum(counts.values())
    sums["all"] = sum(sums.values(), np.zeros(len(THRESHOLDS_PX)))
    if any(((sums[kind] < 0) | (sums[kind] > counts[kind] + 1e-6)).any() for kind in counts):
        raise DiskHlocError(
            f"{path}: the sums are greater than the number of pairs; give another file"
        )
    mma = {kind: sums[kind] / counts[kind] for kind in counts if counts[kind]}
    return {
        "keypoints": round(means[0], 1),
        "matches": round(means[1], 1),
        "pairs": counts,
        "mma": {kind: rounded(values) for kind, values in mma.items()},
        "mma_score": {kind: mma_score(values) for kind, values in mma.items()},
    }


def _load(file: BinaryIO) -> Any:
    """Load the object of a ``.npy`` file: numbers, strings, containers and arrays of them."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if not dtype.hasobject or shape != (3,):
        raise DiskHlocError(f"an array {shape} of {dtype} is not a cache of HPatches results")
    # Some were written by Python 2, whose strings are bytes here.
    return _NumpyUnpickler(file, encoding="latin1").load()


def _to_bytes(text: str, encoding: str) -> bytes:
    """Return bytes that protocol 2 wrote by a codec; some codecs do more than encode."""
    if encoding not in ("latin1", "latin-1"):
        raise DiskHlocError(f"the file asks for the codec {encoding!r}: it is not trusted")
    return text.encode("latin1")


class _NumpyUnpickler(pickle.Unpickler):
    """Load Python's own containers and numpy's arrays and numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _to_bytes,
        }
        found = allowed.get((module, name))
        if found is not None:
            return found
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "_reconstruct",
            "scalar",
        ):
            # numpy 2 has moved them; both names are in use.
            example = np.float64(0) if name == "scalar" else np.zeros(0)
            return example.__reduce__()[0]
        raise DiskHlocError(
            f"the file asks for {module}.{name}, which may run code: it is not trusted; give a "
            "file with numbers and arrays only"
        )
