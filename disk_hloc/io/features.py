"""hloc's features file: an HDF5 group for each image name.

``keypoints`` (N, 2) float32 x and y in pixels of the original image, (0, 0) at the centre of the
top-left pixel, with the attribute ``uncertainty`` in pixels; ``keypoint_scores`` (N,) and
``scores``, the same under the name that some matchers ask for; ``descriptors`` (D, N) of unit
length; ``image_size`` (2,) width and height. hloc's own loop stores keypoints in float16, which
steps by 2 px beyond x = 2048.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from ..errors import DiskHlocError, listing
from .journal import Dataset
from .store import names_with, reading


def feature_entry(
    name: str, features: Mapping[str, np.ndarray], uncertainty: float
) -> tuple[str, list[Dataset]]:
    """An image as :meth:`disk_hloc.io.store.Store.add` takes it.

    Args:
        name: the image's name.
        features: arrays by their name; ``image_size`` among them.
        uncertainty: of the keypoints, in pixels of the original image.
    """
    attributes = {"keypoints": {"uncertainty": uncertainty}}
    return name, [
        Dataset(f"{name}/{key}", array, attributes.get(key, {})) for key, array in features.items()
    ]


def list_features(path: Path) -> list[str]:
    """The names of the images that are whole in a features file, sorted.

    Raises:
        DiskHlocError: no such file, or no HDF5 file.
    """

    with reading(path) as file:
        return sorted(name for name in names_with(file, "keypoints") if "image_size" in file[name])


def list_keypoints(path: Path) -> list[str]:
    """The names of the images that have keypoints, sorted.

    They are more than :func:`list_features` finds where a file lacks ``image_size``, as those of
    hloc's dense matchers do.

    Raises:
        DiskHlocError: no such file, or no HDF5 file.
    """
    with reading(path) as file:
        return sorted(names_with(file, "keypoints"))


def require_features(path: Path, names: Iterable[str], because: str) -> None:
    """Check that a features file holds all ``names``.

    Raises:
        DiskHlocError: it lacks some; ``because`` says who asks for them.
    """
    present = set(list_features(path))
    missing = sorted(set(names) - present)
    if missing:
        raise DiskHlocError(
            f"{path} lacks {len(missing)} of the images that {because}: {listing(missing)}; "
            "extract them first, or take them out of the pairs"
        )


def read_keypoints(file: h5py.File, name: str) -> np.ndarray:
    """(N, 2) float32 keypoints of one image of an open features file."""
    keypoints: np.ndarray = file[name]["keypoints"][()].astype(np.float32)
    return keypoints
