"""A model in 3D, as a figure of plotly: its points in colour, its cameras as frusta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import pycolmap

from disk_hloc.geometry import Pose
from disk_hloc.io import colmap

# More make a browser slow, and show no more.
MAX_POINTS = 40_000
# Traces, in this order.
POINTS, FRUSTA, CAMERAS = range(3)
_CAMERA_COLOR = "#e8590c"
# A frustum's depth, as a part of the median distance of the points from their cameras.
_DEPTH = 0.06


def figure(model: pycolmap.Reconstruction, max_points: int = MAX_POINTS) -> go.Figure:
    """Draw a model.

    The up direction of the cameras is up. Points that are very far off are left out of the view,
    not of the figure.

    Args:
        model: the model.
        max_points: of more points those with the longest tracks are drawn.

    Returns:
        A figure with three traces: the points, the frusta, and the cameras' centres, each with its
        photo's name as text, sorted by name.
    """
    images = sorted(colmap.registered_images(model), key=lambda image: image.name)
    poses = [colmap.to_pose(colmap.cam_from_world(image)) for image in images]
    cameras = [model.cameras[image.camera_id] for image in images]
    points = sorted(model.points3D.values(), key=lambda p: -p.track.length())[:max_points]
    xyz = np.array([point.xyz for point in points], np.float32).reshape(-1, 3)
    colors = np.array([point.color for point in points]).reshape(-1, 3)
    centers = np.array([pose.center for pose in poses]).reshape(-1, 3)
    rotation = _upright(poses)
    shown, middles = xyz @ rotation.T.astype(np.float32), centers @ rotation.T
    depth = _DEPTH * _typical_distance(xyz, centers)
    corners = np.concatenate(
        [_frustum(pose, camera, depth) for pose, camera in zip(poses, cameras, strict=True)]
        or [np.zeros((0, 3))]
    )
    made = go.Figure(
        [
            go.Scatter3d(
                x=shown[:, 0], y=shown[:, 1], z=shown[:, 2], mode="markers", name="points",
                marker={"size": 1.6, "color": [f"rgb({r},{g},{b})" for r, g, b in colors]},
                hoverinfo="skip",
            ),
            _lines(corners @ rotation.T),
            go.Scatter3d(
                x=middles[:, 0], y=middles[:, 1], z=middles[:, 2], mode="markers", name="cameras",
                marker={"size": 4, "color": _CAMERA_COLOR},
                text=[image.name for image in images], hoverinfo="text",
            ),
        ]
    )  # fmt: skip
    made.update_layout(
        scene={"aspectmode": "data", **_ranges(shown, middles)},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        showlegend=False,
        template="none",
    )
    return made


def _upright(poses: Sequence[Pose]) -> np.ndarray:
    """Return the (3, 3) rotation that turns the mean up direction of the cameras to z."""
    up = -np.mean([pose.rotation[1] for pose in poses], axis=0) if poses else np.array([0, 0, 1.0])
    length = np.linalg.norm(up)
    up = up / length if length > 0 else np.array([0, 0, 1.0])
    side = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(up, side), up])


def _typical_distance(xyz: np.ndarray, centers: np.ndarray) -> float:
    if not len(xyz) or not len(centers):
        return 1.0
    return float(np.median(np.linalg.norm(xyz - np.median(centers, axis=0), axis=1))) or 1.0


def _frustum(pose: Pose, camera: pycolmap.Camera, depth: float) -> np.ndarray:
    """Return (8, 2, 3) ends of the lines of a camera, in the world, as (16, 3)."""
    focal_lengths = [camera.params[i] for i in camera.focal_length_idxs()] or [camera.width]
    x = depth * camera.width / 2 / focal_lengths[0]
    y = depth * camera.height / 2 / focal_lengths[-1]
    corners = np.array([[-x, -y, depth], [x, -y, depth], [x, y, depth], [-x, y, depth]])
    lines = [[np.zeros(3), corner] for corner in corners]
    lines += [[corners[i], corners[(i + 1) % 4]] for i in range(4)]
    return np.asarray(np.array(lines).reshape(-1, 3) @ pose.rotation + pose.center)


def _lines(ends: np.ndarray) -> go.Scatter3d:
    """Return the trace of lines, given the (2 N, 3) ends of each."""
    gaps = np.full((len(ends) // 2, 1, 3), np.nan)
    x, y, z = np.concatenate([ends.reshape(-1, 2, 3), gaps], axis=1).reshape(-1, 3).T
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", line={"color": _CAMERA_COLOR, "width": 2}, hoverinfo="skip",
        name="frusta",
    )  # fmt: skip


def _ranges(points: np.ndarray, centers: np.ndarray) -> dict[str, dict[str, object]]:
    """Return axes without decoration, from the cameras to nearly all points."""
    axes: dict[str, dict[str, object]] = {}
    for i, name in enumerate("xyz"):
        values = [centers[:, i]]
        if len(points):
            values.append(np.quantile(points[:, i], [0.02, 0.98]))
        both = np.concatenate(values) if len(np.concatenate(values)) else np.zeros(1)
        low, high = float(both.min()), float(both.max())
        margin = 0.1 * (high - low) or 1.0
        axes[f"{name}axis"] = {"visible": False, "range": [low - margin, high + margin]}
    return axes
