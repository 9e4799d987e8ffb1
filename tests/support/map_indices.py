"""A map index of two photos, made of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from disk_hloc.io.map_index import MapIndex


def small_index(**changed: Any) -> MapIndex:
    """Return an index of two photos with 3 and 2 keypoints that see four points."""
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "names": ["a.jpg", "b/c.jpg"],
        "sizes": np.array([[64, 48], [48, 64]]),
        "poses": np.array([[1.0, 0, 0, 0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 1, 2, 3]]),
        "turns": np.array([0, 3]),
        "starts": np.array([0, 3, 5]),
        "keypoints": rng.uniform(0, 40, (5, 2)).astype(np.float32),
        "descriptors": rng.normal(size=(5, 8)).astype(np.float16),
        "points": np.array([0, 1, 2, 2, 3]),
        "xyz": rng.normal(size=(4, 3)),
        "colors": rng.integers(0, 255, (4, 3), np.uint8),
        "point_ids": np.array([1, 5, 9, 12]),
        "global_descriptors": rng.normal(size=(2, 6)).astype(np.float32),
        "look_starts": np.array([0, 1, 2]),
        "look_places": rng.uniform(size=(2, 2)).astype(np.float32),
        "look_octaves": rng.uniform(size=2).astype(np.float32),
        "look_angles": rng.uniform(size=2).astype(np.float32),
        "look_descriptors": rng.integers(0, 255, (2, 128), np.uint8),
        "cameras": {
            3: {"model": "PINHOLE", "width": 64, "height": 48, "params": [50.0, 50.0, 32.0, 24.0]}
        },
        "camera_ids": [3, 3],
        "devices": ["64x48 | 5.0 | - | A | B", None],
    }
    return MapIndex(**{**values, **changed})
