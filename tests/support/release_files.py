"""Small photos, and files as DISK's release writes them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from disk_hloc.io import release


def write_photo(path: Path, size: tuple[int, int], seed: int = 0, **options: object) -> None:
    """Write an image of smooth noise; ``options`` are Pillow's for saving."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)


def write_folder(
    folder: Path, keypoints: dict[str, np.ndarray], matches: dict[tuple[str, str], np.ndarray]
) -> Path:
    """Write files as the release does, without attributes."""
    folder.mkdir(exist_ok=True)
    with h5py.File(release.path_of(folder, "keypoints"), "w") as file:
        for name, values in keypoints.items():
            file[name] = values
    with h5py.File(release.path_of(folder, "matches"), "w") as file:
        for name in keypoints:
            file.create_group(name)
        for (first, second), values in matches.items():
            file[first][second] = values
    return folder
