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

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.store import reading
from disk_hloc.io.store.hdf5 import find, names_with, read, require_array
from disk_hloc.io.store.journal import Dataset

# Of an image in pixels: OpenCV reads none that is longer.
MAX_SIDE = 1 << 20


def feature_entry(
    name: str, features: Mapping[str, np.ndarray], uncertainty: float
) -> tuple[str, list[Dataset]]:
    """An image as :meth:`disk_hloc.io.store.store.Store.add` takes it.

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
        return sorted(names_with(file, "keypoints", "image_size"))


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
    # Not by a list of all that are present, which takes a second for 3,000 images.
    with reading(path) as file:
        missing = sorted(
            name
            for name in set(names)
            if f"{name}/keypoints" not in file or f"{name}/image_size" not in file
        )
    if missing:
        raise DiskHlocError(
            f"{path} lacks {len(missing)} of the images that {because}: {listing(missing)}; "
            "extract them first, or take them out of the pairs"
        )


def read_keypoints(file: h5py.File, name: str) -> np.ndarray:
    """(N, 2) float32 keypoints of one image of an open features file.

    Raises:
        DiskHlocError: they are missing, of another shape, or not finite.
    """
    keypoints: np.ndarray = read(file, f"{name}/keypoints", (None, 2)).astype(np.float32)
    return keypoints


def read_image_size(file: h5py.File, name: str) -> tuple[int, int]:
    """Width and height of one image of an open features file, in pixels.

    Raises:
        DiskHlocError: they are missing, or are none.
    """
    width, height = read(file, f"{name}/image_size", (2,))
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise DiskHlocError(
            f"{file.filename}, {name}/image_size: {width} x {height} is the size of no image"
        )
    return int(width), int(height)


def read_features(file: h5py.File, name: str) -> dict[str, np.ndarray]:
    """What matchers need of one image of an open features file.

    Returns:
        ``keypoints`` (N, 2), ``descriptors`` (D, N) and ``image_size`` (2,), as they are stored.

    Raises:
        DiskHlocError: one is missing, of another shape, or not finite; or they do not fit each
            other.
    """
    keypoints = read(file, f"{name}/keypoints", (None, 2))
    return {
        "keypoints": keypoints,
        "descriptors": read(file, f"{name}/descriptors", (None, len(keypoints))),
        "image_size": np.array(read_image_size(file, name)),
    }


def descriptors_shape(file: h5py.File, name: str) -> tuple[int, int]:
    """(D, N) of the descriptors of one image of an open features file.

    Raises:
        DiskHlocError: there are none, or not of numbers in that shape.
    """
    stored = find(file, f"{name}/descriptors")
    if not isinstance(stored, h5py.Dataset):
        raise DiskHlocError(
            f"{file.filename} has keypoints of {name} but no descriptors, so a dense matcher made "
            "it or it was cut: give the file that extracting wrote"
        )
    require_array(stored, (None, None))
    length, count = stored.shape
    return int(length), int(count)
