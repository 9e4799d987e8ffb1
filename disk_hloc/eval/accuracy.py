"""Errors of relative poses, and how many of them are small.

As in the stereo task of Jin, Mishkin, Mishchuk, Matas, Fua, Yi, Trulls, "Image Matching across Wide
Baselines: From Paper to Practice", IJCV 2020, section 4.
"""

from __future__ import annotations

import numpy as np

from disk_hloc.geometry import angle_between, rotation_angle

# Of the mAA.
LIMITS_DEGREES = (1, 2, 5, 10)


def pose_error(
    rotation: np.ndarray,
    translation: np.ndarray,
    true_rotation: np.ndarray,
    true_translation: np.ndarray,
) -> float:
    """Return the greater of the errors of rotation and translation direction, in degrees.

    As in the Image Matching Challenge, the sign of the translation does not count.

    Args:
        rotation: (3, 3).
        translation: (3,), of any length.
        true_rotation: (3, 3).
        true_translation: (3,), of any length.
    """
    direction = float(angle_between(translation, true_translation))
    return max(rotation_angle(rotation @ true_rotation.T), min(direction, 180 - direction))


def mean_accuracy(errors: np.ndarray, limit: float) -> float:
    """Return the challenge's mAA: the share of errors within a threshold, averaged over thresholds.

    Args:
        errors: (P,) degrees.
        limit: the greatest threshold in degrees. Thresholds are 1 degree apart, or a tenth of
            ``limit`` where it is below 5.

    Returns:
        0 to 1, NaN without errors.
    """
    if len(errors) == 0:
        return float("nan")
    steps = round(limit) if limit >= 5 else 10
    thresholds = limit * np.arange(1, steps + 1) / steps
    return float((np.asarray(errors)[:, None] <= thresholds).mean())


def auc(errors: np.ndarray, limit: float) -> float:
    """Return the area under the share of errors within a threshold, from 0 to ``limit``.

    It is divided by ``limit``. :func:`mean_accuracy` approaches it with more thresholds; an error
    e adds max(0, 1 - e / limit). (SuperGlue's and LightGlue's AUC joins the steps by straight
    lines, which gives slightly more.)

    Args:
        errors: (P,), in degrees or any other unit.
        limit: in the unit of the errors.

    Returns:
        0 to 1, NaN without errors.
    """
    if len(errors) == 0:
        return float("nan")
    return float(np.clip(1 - np.asarray(errors) / limit, 0, None).mean())
