"""A small rendered data set in the layout of DISK's release."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import cv2
import h5py
import numpy as np

from disk_hloc.synthetic_room import Camera, Quad, Scene, look_at, render

SIZE = (64, 48)  # width and height of the photos
POSES = np.array([look_at((x, -3.0 + 0.2 * x, 0.3 * x), (0.2 * x, 0, 0)) for x in (-0.6, 0, 0.5)])


def blocks(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a texture of random blocks, (128, 128, 3) uint8."""
    grid = rng.integers(0, 256, (128 // size, 128 // size, 3), dtype=np.uint8)
    return np.kron(grid, np.ones((size, size, 1), np.uint8))


def write_set(folder: Path, num_scenes: int = 1) -> Path:
    """Write ``dataset.json`` with scenes of three photos: a wall and a board in front of it."""
    data = {}
    camera = Camera.from_size(*SIZE)
    for s in range(num_scenes):
        rng = np.random.default_rng(s)
        wall = Quad("wall", (-3, 1, 2.4), (6, 0, 0), (0, 0, -4.8), blocks(rng, 4), "wall")
        board = Quad("board", (-0.4, 0, 0.4), (0.8, 0, 0), (0, 0, -0.8), blocks(rng, 16), "board")
        root = folder / f"scene{s}"
        for name in ("images", "calibration", "depth"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for i, pose in enumerate(POSES):
            seen = render(Scene((wall, board)), camera, pose)
            cv2.imwrite(str(root / "images" / f"{i}.jpg"), seen.image[:, :, ::-1])
            with h5py.File(root / "calibration" / f"calibration_{i}.jpg.h5", "w") as file:
                file["K"], file["R"], file["T"] = camera.matrix, pose[:, :3], pose[:, 3]
            with h5py.File(root / "depth" / f"{i}.h5", "w") as file:
                file["depth"] = seen.depth.astype(np.float32)
        data[f"scene{s}"] = {
            "images": ["0.jpg", "1.jpg", "2.jpg"],
            "tuples": [list(pair) for pair in combinations(range(3), 2)],
            "image_path": f"scene{s}/images",
            "calib_path": f"scene{s}/calibration",
            "depth_path": f"scene{s}/depth",
        }
    path = folder / "dataset.json"
    path.write_text(json.dumps(data))
    return path
