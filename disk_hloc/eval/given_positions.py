"""Classical descriptors at given positions, to compare learned ones with.

A function takes an image, (H, W, 3) uint8 RGB, and (N, 2) int64 x and y in pixels, and returns
(D, N) float32 descriptors of unit length, 0 where there is no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from disk_hloc.errors import DiskHlocError

Describe = Callable[[np.ndarray, np.ndarray], np.ndarray]

# OpenCV's 4 x 4 histograms are 3 scales wide each, and its size is twice the scale: 32 px in all,
# as much as DAISY sees.
_SIFT_SIZE_PX = 16 / 3
# DAISY's, and the defaults of OpenCV's.
_RADIUS_PX = 15
_DAISY = {"step": 1, "radius": _RADIUS_PX, "rings": 3, "histograms": 8, "orientations": 8}


def sift(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Describe pixels by OpenCV's SIFT, upright and of one scale: histograms over 32 x 32 px.

    Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004, section 6.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    keypoints = [cv2.KeyPoint(float(x), float(y), _SIFT_SIZE_PX, 0) for x, y in xy]
    # OpenCV returns None for no keypoints, and it may drop none of those that are given.
    found, descriptors = cv2.SIFT.create().compute(gray, keypoints)
    if descriptors is None:
        return np.zeros((128, 0), np.float32)
    assert [one.pt for one in found] == [one.pt for one in keypoints]
    return _unit(descriptors).T


def daisy(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Describe pixels by scikit-image's DAISY, with the parameters of OpenCV's defaults.

    Tola, Lepetit, Fua, "DAISY: an efficient dense descriptor applied to wide-baseline stereo", PAMI
    2010. The implementation is not OpenCV's, with which MSNet's figures were made: blurs and
    interpolation differ. All pixels are described, which takes 0.5 GB at 640 x 480.

    Raises:
        DiskHlocError: scikit-image is missing.
    """
    try:
        from skimage.feature import daisy as dense
    except ImportError as error:
        raise DiskHlocError("skimage-daisy needs scikit-image: pip install scikit-image") from error
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    # Descriptors begin at the radius: beyond the image, the border goes on.
    padded = np.pad(gray, _RADIUS_PX, mode="edge")
    described = dense(padded, normalization="off", **_DAISY)
    return _unit(described[xy[:, 1], xy[:, 0]].astype(np.float32)).T


# Beside extractors' confs, whose names say whose they are.
BASELINES: dict[str, Describe] = {"opencv-sift": sift, "skimage-daisy": daisy}


def _unit(descriptors: np.ndarray) -> np.ndarray:
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True).clip(1e-12)
