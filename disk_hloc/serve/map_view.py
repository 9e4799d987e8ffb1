"""What the page shows of a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from disk_hloc.io.gps import LocalFrame
from disk_hloc.io.map_folder import MapFolder
from disk_hloc.io.map_index import MapIndex
from disk_hloc.io.names import is_relative
from disk_hloc.localizer.result import pose_to_json

from . import answers

# More do not make it clearer, and cost phones time.
MAX_POINTS = 60_000
# Of the points along each axis that are looked at: some are far away by mistake.
_MOST = (0.03, 0.97)
# Where is up in a photo as stored, by the quarters by which it is turned counter-clockwise to be
# upright: x right, y down.
_UP = np.array([[0.0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0]])


def describe(
    folder: MapFolder, index: MapIndex, frame: LocalFrame | None, max_upload_bytes: int
) -> answers.Map:
    """Return what a map has, without its points."""
    origin = None
    if frame is not None:
        keys = ("latitude", "longitude", "altitude")
        origin = answers.Position(**dict(zip(keys, map(float, frame.origin), strict=True)))
    box = None
    if len(index.xyz):
        box = answers.Box(min=index.xyz.min(axis=0).tolist(), max=index.xyz.max(axis=0).tolist())
    return answers.Map(
        name=folder.path.resolve().name,
        num_photos=len(index.names),
        num_points=len(index.xyz),
        georeference=origin,
        bounding_box=box,
        view=_view(index, frame),
        cameras={key: answers.Camera(**camera) for key, camera in index.cameras.items()},
        photos=[
            answers.MapPhoto(
                name=name,
                camera=index.camera_ids[i],
                cam_from_world=answers.Pose(**pose_to_json(index.pose(i))),
            )
            for i, name in enumerate(index.names)
        ],
        shown_points=min(len(index.xyz), MAX_POINTS),
        max_upload_bytes=max_upload_bytes,
    )


def _view(index: MapIndex, frame: LocalFrame | None) -> answers.View:
    poses = [index.pose(i) for i in range(len(index.names))]
    ups = [pose.rotation.T @ _UP[turn % 4] for pose, turn in zip(poses, index.turns, strict=True)]
    up = np.array([0.0, 0, 1]) if frame is not None else np.sum(ups, axis=0)
    if not np.linalg.norm(up) > 0:
        up = np.array([0.0, -1, 0])
    shown = np.array([pose.center for pose in poses]).reshape(-1, 3)
    if len(index.xyz):
        shown = np.concatenate([shown, np.quantile(index.xyz, _MOST, axis=0)])
    low, high = (shown.min(axis=0), shown.max(axis=0)) if len(shown) else np.zeros((2, 3))
    return answers.View(
        center=((low + high) / 2).tolist(),
        radius=float(np.linalg.norm(high - low) / 2) or 1.0,
        up=(up / np.linalg.norm(up)).tolist(),
    )


def points(index: MapIndex) -> bytes:
    """Return N points: N * 3 little-endian float32 x, y, z, then N * 3 bytes red, green, blue.

    If the map has more than :data:`MAX_POINTS`, that many of them, drawn at random.
    """
    rows = np.random.default_rng(0).permutation(len(index.xyz))[:MAX_POINTS]
    return index.xyz[rows].astype("<f4").tobytes() + index.colors[rows].tobytes()


def thumbnail(folder: MapFolder, index: MapIndex, photo: int) -> Path | None:
    """Return the file with the small version of a photo, by its number; None without one."""
    if not 0 <= photo < len(index.names) or not is_relative(index.names[photo]):
        return None
    path = folder.thumbnail(index.names[photo])
    return path if path.is_file() else None
