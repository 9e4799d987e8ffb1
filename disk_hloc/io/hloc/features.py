"""Read and write hloc's features file, an HDF5 file with one group per image name.

A group holds ``keypoints`` (N, 2) float32, x and y in pixels of the original image with (0, 0) at
the centre of the top-left pixel, with the attribute ``uncertainty`` in pixels; ``keypoint_scores``
(N,), and the same as ``scores``, the name that some matchers need; ``descriptors`` (D, N) of unit
length; ``image_size`` (2,) width and height in pixels. hloc itself stores keypoints in float16,
whose step is 2 px beyond x = 2048.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.digests import digest_of_arrays
from disk_hloc.io.sizes import require_same_sizes
from disk_hloc.io.store import fingerprints, reading
from disk_hloc.io.store.hdf5 import (
    arrays_of,
    find,
    has,
    names_with,
    read,
    read_values,
    require_array,
)
from disk_hloc.io.store.journal import Dataset

# OpenCV reads no image with a longer side.
MAX_SIDE_PIXELS = 1 << 20


def feature_entry(
    name: str, features: Mapping[str, np.ndarray], uncertainty: float
) -> tuple[str, list[Dataset]]:
    """Return the arguments of :meth:`disk_hloc.io.store.store.Store.add` for one image.

    Args:
        name: name of the image.
        features: arrays by name, including ``image_size``.
        uncertainty: uncertainty of the keypoints, in pixels of the original image.
    """
    attributes = {"keypoints": {"uncertainty": uncertainty}}
    return name, [
        Dataset(f"{name}/{key}", array, attributes.get(key, {})) for key, array in features.items()
    ]


def list_features(path: Path) -> list[str]:
    """List the names of the complete images of a features file, sorted.

    Raises:
        DiskHlocError: the file does not exist or is not an HDF5 file.
    """
    with reading(path) as file:
        return sorted(names_with(file, "keypoints", "image_size"))


def list_keypoints(path: Path) -> list[str]:
    """List the names of the images that have keypoints, sorted.

    Unlike :func:`list_features`, this includes images without ``image_size``, which hloc's dense
    matchers do not write.

    Raises:
        DiskHlocError: the file does not exist or is not an HDF5 file.
    """
    with reading(path) as file:
        return sorted(names_with(file, "keypoints"))


def require_features(path: Path, names: Iterable[str], because: str, *arrays: str) -> None:
    """Check that a features file has keypoints of all ``names``.

    Args:
        path: the features file.
        names: names of images.
        because: why they are needed, for the error message: "images that <because>".
        arrays: further arrays of an image that are needed, such as ``image_size``.

    Raises:
        DiskHlocError: an image or an array is missing.
    """
    # Listing all images of the file instead would take a second for 3,000 images.
    with reading(path) as file:
        missing = sorted(name for name in set(names) if not has(file, name, "keypoints"))
        for array in arrays if not missing else ():
            without = sorted(name for name in set(names) if not has(file, name, array))
            if without:
                raise DiskHlocError(
                    f"{path} has keypoints but no {array} of {len(without)} of the images that "
                    f"{because}: {listing(without)}; use the file that an extraction wrote"
                )
    if missing:
        raise DiskHlocError(
            f"{path} is missing {len(missing)} of the images that {because}: {listing(missing)}; "
            "extract them first, or remove them from the pairs"
        )


def require_image_sizes(path: Path, sizes: Mapping[str, tuple[int, int]], source: str) -> None:
    """Check that the images of a features file have the sizes that another file says.

    Images that the file does not have, or has without ``image_size``, are not checked.

    Args:
        path: the features file.
        sizes: image name -> width and height in pixels.
        source: where these are from, for the error: ``the cameras of queries.txt``.

    Raises:
        DiskHlocError: they differ.
    """
    found = image_sizes(path, sizes)
    require_same_sizes(found, f"the images that {path} was extracted from", sizes, source)


def image_sizes(path: Path, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Read image name -> width and height in pixels, of those whose size a features file has.

    Raises:
        DiskHlocError: a size is invalid, or the file is broken.
    """
    with reading(path) as file:
        return {
            name: read_image_size(file, name) for name in names if has(file, name, "image_size")
        }


def read_keypoints(file: h5py.File, name: str) -> np.ndarray:
    """Read the (N, 2) float32 keypoints of one image from an open features file.

    Raises:
        DiskHlocError: the keypoints are missing, have another shape, or are not finite.
    """
    keypoints: np.ndarray = read(file, f"{name}/keypoints", (None, 2)).astype(np.float32)
    return keypoints


def read_image_size(file: h5py.File, name: str) -> tuple[int, int]:
    """Read the width and height in pixels of one image from an open features file.

    Raises:
        DiskHlocError: the size is missing or invalid.
    """
    width, height = read(file, f"{name}/image_size", (2,))
    if not (1 <= width <= MAX_SIDE_PIXELS and 1 <= height <= MAX_SIDE_PIXELS):
        raise DiskHlocError(
            f"{file.filename}, {name}/image_size: {width} x {height} is not a valid image size"
        )
    return int(width), int(height)


def read_features(file: h5py.File, name: str) -> dict[str, np.ndarray]:
    """Read the arrays that matchers need for one image from an open features file.

    Returns:
        ``keypoints`` (N, 2), ``descriptors`` (D, N) and ``image_size`` (2,), as they are stored.

    Raises:
        DiskHlocError: an array is missing, has another shape, or is not finite; or the numbers of
            keypoints and descriptors differ.
    """
    keypoints = read(file, f"{name}/keypoints", (None, 2))
    return {
        "keypoints": keypoints,
        "descriptors": read(file, f"{name}/descriptors", (None, len(keypoints))),
        "image_size": np.array(read_image_size(file, name)),
    }


def descriptors_shape(file: h5py.File, name: str) -> tuple[int, int]:
    """Return the shape (D, N) of the descriptors of one image in an open features file.

    Raises:
        DiskHlocError: the descriptors are missing, or are not a (D, N) array of numbers.
    """
    stored = find(file, f"{name}/descriptors")
    if not isinstance(stored, h5py.Dataset):
        raise DiskHlocError(
            f"{file.filename} has keypoints of {name} but no descriptors (it joins features of "
            "several extractors, a dense matcher made it, or it is incomplete): use a file that an "
            "extraction wrote"
        )
    require_array(stored, (None, None))
    length, count = stored.shape
    return int(length), int(count)


def features_digests(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of the features of each of some images.

    It is read from their fingerprints; of features that another program wrote it is computed.

    Args:
        path: the features file.
        names: the images.

    Raises:
        DiskHlocError: the file has no features of some of them, or is broken.
    """
    with reading(path) as file:
        return {name: content_digest(file, name) for name in set(names)}


def content_digest(file: h5py.File, name: str) -> str:
    """Return the digest of the features of one image of an open features file.

    Raises:
        DiskHlocError: the file is broken.
    """
    fingerprint = fingerprints.read_of(file, name)
    if fingerprint is not None:
        return fingerprint.content
    group = find(file, name)
    if not isinstance(group, h5py.Group):
        raise DiskHlocError(f"{file.filename} has no features of {name}")
    return digest_of_arrays(
        (key, np.asarray(read_values(dataset))) for key, dataset in arrays_of(group)
    )
