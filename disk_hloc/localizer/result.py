"""What a localizer answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.geometry import Pose

from . import covariance as covariances

# The level part of a direction, of length one, that has a heading.
_LEAST_LEVEL = 1e-6
# Localization.camera_from.
_CAMERA_IN_WORDS = {
    "given": "as given",
    "map": "of the map",
    "exif": "by EXIF",
    "estimated": "estimated",
}


@dataclass(frozen=True)
class Retrieved:
    """A photo of the map that a query was matched with.

    Attributes:
        name: of the photo.
        similarity: of the global descriptors, a cosine.
        matches: how many keypoints of the query were matched with keypoints that see a point.
        inliers: how many of them agree with the pose.
    """

    name: str
    similarity: float
    matches: int
    inliers: int = 0


@dataclass(frozen=True)
class Correspondences:
    """Keypoints of a query, each with a point of the map that it may see.

    Attributes:
        keypoints: (N, 2) float32 pixels of the query as stored, (0, 0) at the centre of the
            top-left pixel.
        points: (N,) int64, COLMAP's ids.
        xyz: (N, 3) float64.
        inliers: (N,) bool.
        images: (N,) int64, the first photo of ``Localization.retrieved`` that was matched so.
        places: (N, 2) float32 pixels of that photo, likewise.
    """

    keypoints: np.ndarray
    points: np.ndarray
    xyz: np.ndarray
    inliers: np.ndarray
    images: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Localization:
    """The pose of a query, or the reason why it has none.

    Attributes:
        pose: cam_from_world, in units of the map; None if the query was not localized.
        reason: why not, in one line; None if it was.
        covariance: (6, 6) of the pose: three angles in radians of a small turn about the axes of
            the camera (``exp(turn) @ rotation``), then the translation; None without a pose, and
            for a photo of a rig, which has one covariance. It knows of the noise of keypoints
            alone, not of errors of the map or of given intrinsics.
        camera: COLMAP's camera that the pose belongs to; None if no pose was estimated.
        camera_from: where its intrinsics are from: ``given``, ``map`` (the camera of photos that
            the same device took), ``exif`` or ``estimated``; the focal length of the last two was
            refined with the pose.
        turn: degrees, counter-clockwise, by which the query was turned for extraction.
        num_keypoints, num_correspondences, num_inliers: of the query.
        log10_chance: log10 of the probability of as many inliers by chance; 0 without a pose.
        retrieved: the photos of the map that it was matched with, the most similar first.
        correspondences: what the pose was estimated from, or None.
        seconds: step -> its duration; empty for a photo of a rig.
        position: latitude and longitude in degrees (WGS84) and altitude in metres above sea level,
            where the map is georeferenced.
    """

    pose: Pose | None = None
    reason: str | None = None
    covariance: np.ndarray | None = None
    camera: pycolmap.Camera | None = None
    camera_from: str | None = None
    turn: int = 0
    num_keypoints: int = 0
    num_correspondences: int = 0
    num_inliers: int = 0
    log10_chance: float = 0.0
    retrieved: Sequence[Retrieved] = ()
    correspondences: Correspondences | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    position: tuple[float, float, float] | None = None

    @property
    def localized(self) -> bool:
        """Whether there is a pose."""
        return self.pose is not None

    @property
    def center_covariance(self) -> np.ndarray | None:
        """The (3, 3) covariance of the camera's centre in the world, in squared units of the map.

        None without ``covariance``.
        """
        if self.pose is None or self.covariance is None:
            return None
        pose = self.pose
        return covariances.of_center(pose.rotation, pose.translation, self.covariance)

    @property
    def heading(self) -> float | None:
        """Where the camera looks, in degrees clockwise from north, where the map is georeferenced.

        None for a camera that looks straight up or down, too.
        """
        if self.pose is None or self.position is None:
            return None
        east, north, _ = self.pose.rotation[2]
        if np.hypot(east, north) < _LEAST_LEVEL:
            return None
        return float(np.degrees(np.arctan2(east, north)) % 360)

    def __str__(self) -> str:
        """Say in one line where the photo was taken, or why that is not known."""
        if self.pose is None:
            return f"not localized: {self.reason}"
        if self.position is not None:
            where = "{:.7f}, {:.7f}, {:.1f} m".format(*self.position)
        else:
            where = "{:.3f} {:.3f} {:.3f}".format(*self.pose.center)
        if self.heading is not None:
            where += f", heading {self.heading:.0f} degrees"
        # Photos of a rig have their durations together.
        seconds = f"; {sum(self.seconds.values()):.2f} s" if self.seconds else ""
        return (
            f"localized at {where}; {self.num_inliers} of {self.num_correspondences} matches "
            f"agree; camera {_CAMERA_IN_WORDS[self.camera_from or 'given']}{seconds}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return all but the correspondences as numbers, texts, lists and dicts.

        With ``center``, the camera's in the world, in units of the map.
        """
        pose, spread = self.pose, self.center_covariance
        return {
            "localized": self.localized,
            "reason": self.reason,
            "cam_from_world": None if pose is None else pose_to_json(pose),
            "center": None if pose is None else pose.center.tolist(),
            "position": None
            if self.position is None
            else dict(zip(("latitude", "longitude", "altitude"), self.position, strict=True)),
            "heading": self.heading,
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "center_covariance": None if spread is None else spread.tolist(),
            "camera": None if self.camera is None else camera_to_json(self.camera),
            "camera_from": self.camera_from,
            "turn": self.turn,
            "keypoints": self.num_keypoints,
            "correspondences": self.num_correspondences,
            "inliers": self.num_inliers,
            "log10_chance": self.log10_chance,
            "retrieved": [vars(one) for one in self.retrieved],
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True)
class RigLocalization:
    """The pose of several photos that are rigidly joined, or the reason why they have no pose.

    Attributes:
        pose: rig_from_world, in units of the map, or None.
        reason: why there is no pose, or None.
        covariance: see :class:`Localization`.
        images: what is known of each photo, with its own pose if the rig has one.
        num_inliers, log10_chance: of all photos together.
        seconds: step -> its duration, of all photos.
    """

    pose: Pose | None
    reason: str | None
    covariance: np.ndarray | None
    images: Sequence[Localization]
    num_inliers: int
    log10_chance: float
    seconds: Mapping[str, float]

    @property
    def localized(self) -> bool:
        """Whether there is a pose."""
        return self.pose is not None

    def __str__(self) -> str:
        """Say in one line where the rig was, or why that is not known."""
        if self.pose is None:
            return f"not localized: {self.reason}"
        return (
            "localized at {:.3f} {:.3f} {:.3f} together; ".format(*self.pose.center)
            + f"{self.num_inliers} matches agree; {sum(self.seconds.values()):.2f} s"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what is known of the rig, without its photos, as :meth:`Localization.to_json`."""
        return {
            "localized": self.localized,
            "reason": self.reason,
            "rig_from_world": None if self.pose is None else pose_to_json(self.pose),
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "inliers": self.num_inliers,
            "log10_chance": self.log10_chance,
            "seconds": dict(self.seconds),
        }


def pose_to_json(pose: Pose) -> dict[str, list[float]]:
    """Return a pose as ``quaternion`` (w, x, y, z) and ``translation``."""
    return {
        "quaternion": [float(value) for value in pose.quaternion],
        "translation": [float(value) for value in pose.translation],
    }


def camera_to_json(camera: pycolmap.Camera) -> dict[str, Any]:
    """Return a camera as COLMAP's ``model``, ``width``, ``height`` and ``params``, in pixels."""
    return {
        "model": camera.model.name,
        "width": camera.width,
        "height": camera.height,
        "params": [float(value) for value in camera.params],
    }
