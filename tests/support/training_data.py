"""Read a data set without disk_hloc; write COLMAP's model and depth maps of rendered photos."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from disk_hloc.synthetic_room import quaternion

SIZE = (192, 144)


@dataclass
class View:
    """The data of one photo."""

    name: str
    matrix: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    depth: np.ndarray

    @property
    def pose(self) -> np.ndarray:
        return np.column_stack([self.rotation, self.translation])


def read_views(json_path: Path, scene: str | None = None) -> list[View]:
    """Read the views of a scene like DISK's release."""
    scenes = json.loads(json_path.read_text())
    found = scenes[scene or next(iter(scenes))]
    views = []
    for name in found["images"]:
        calibration = json_path.parent / found["calib_path"] / f"calibration_{name}.h5"
        with h5py.File(calibration) as file:
            matrix, rotation, translation = (file[key][()] for key in "KRT")
        depth = np.zeros((0, 0))
        if "depth_path" in found:
            base = name.split(".")[0]
            with h5py.File(json_path.parent / found["depth_path"] / f"{base}.h5") as file:
                depth = file["depth"][()]
        views.append(View(name, matrix, rotation, translation, depth))
    return views


def write_model(
    drawn: Path,
    folder: Path,
    camera: str | None = None,
    distort: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels,
) -> Path:
    """Write a COLMAP text model of the rendered training photos."""
    views = read_views(drawn / "train" / "dataset.json")
    folder.mkdir(parents=True, exist_ok=True)
    k = views[0].matrix
    camera = camera or f"PINHOLE {SIZE[0]} {SIZE[1]} {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}"
    (folder / "cameras.txt").write_text(f"1 {camera}\n")
    rng = np.random.default_rng(0)
    observations: list[list[str]] = [[] for _ in views]
    points = []
    for i, view in enumerate(views):
        for _ in range(60):
            column, row = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1])
            ray = np.linalg.solve(view.matrix, [column + 0.5, row + 0.5, 1])
            world = view.rotation.T @ (ray * view.depth[row, column] - view.translation)
            number = len(points) + 1
            track = []
            for j, other in enumerate(views):
                in_camera = other.rotation @ world + other.translation
                pixel = (other.matrix @ in_camera)[:2] / in_camera[2]
                x, y = np.floor(pixel).astype(int)
                if j != i and not (
                    in_camera[2] > 0
                    and 0 <= x < SIZE[0]
                    and 0 <= y < SIZE[1]
                    and abs(other.depth[y, x] / in_camera[2] - 1) < 0.02
                ):
                    continue
                u, v = distort(pixel)
                track.append(f"{j + 1} {len(observations[j])}")
                observations[j].append(f"{u} {v} {number}")
            x, y, z = world
            points.append(f"{number} {x} {y} {z} 128 128 128 0.5 {' '.join(track)}")
    lines = []
    for i, view in enumerate(views):
        numbers = [*quaternion(view.rotation), *view.translation]
        lines.append(" ".join(map(str, [i + 1, *numbers, 1, view.name])))
        lines.append(" ".join(observations[i]))
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("\n".join(points) + "\n")
    return folder


def write_depth_map(path: Path, depth: np.ndarray) -> None:
    """Write a depth map as COLMAP's stereo does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = depth.shape
    path.write_bytes(f"{width}&{height}&1&".encode() + depth.astype("<f4").tobytes())
