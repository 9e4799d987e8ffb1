"""A folder of photos that people work on, and the runs on it, for tests/test_changing_input.py."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import inputs
from disk_hloc.pipelines import matching
from disk_hloc.weights import resolve

NAMES = ("a.jpg", "b.png", "c/d.jpg", "e.jpg")
VARIANTS = 4
FILES = ("features.h5", "pairs.txt", "matches.h5")


def draw(path: Path, variant: int) -> None:
    """Write a small photo, one of :data:`VARIANTS`."""
    rng = np.random.default_rng(variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    photo = cv2.resize(blocks, (128 + 16 * (variant % 2), 96), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), photo)


def write_weights(folder: Path) -> list[Path]:
    """Write two checkpoints of DISK that differ."""
    content = torch.load(resolve("depth"), map_location="cpu", weights_only=True)
    parameters = content["extractor"]
    scaled = {name: 1.3 * v if v.ndim == 4 else v for name, v in parameters.items()}
    paths = [folder / "first.pth", folder / "second.pth"]
    for path, values in zip(paths, (parameters, scaled), strict=True):
        torch.save({"extractor": values}, path)
    return paths


@dataclass
class Input:
    """Photos, masks, weights and a conf in a folder.

    Attributes:
        folder: gets ``photos/``, ``masks/``, ``weights.pth`` and ``extractor.yaml``.
        weights: the checkpoints to choose from.
    """

    folder: Path
    weights: list[Path]

    def begin(self) -> None:
        """Make the first state: two photos, no mask."""
        (self.folder / "masks").mkdir(parents=True)
        for variant, name in enumerate(NAMES[:2]):
            draw(self.folder / "photos" / name, variant)
        self.replace_weights(0)
        self.set_conf(40)

    def photo(self, index: int) -> Path:
        """Return a photo, which may not exist."""
        return self.folder / "photos" / NAMES[index]

    def photos(self) -> list[Path]:
        """Return the photos that exist."""
        return [self.photo(i) for i in range(len(NAMES)) if self.photo(i).exists()]

    def write(self, index: int, variant: int) -> None:
        """Add a photo, or replace it."""
        draw(self.photo(index), variant)

    def turn(self, index: int, quarters: int) -> None:
        """Store a photo turned, if it exists."""
        path = self.photo(index)
        if path.exists():
            cv2.imwrite(str(path), np.rot90(cv2.imread(str(path)), quarters))

    def touch(self, index: int) -> None:
        """Give a photo another time."""
        if self.photo(index).exists():
            os.utime(self.photo(index))

    def rename(self, index: int, other: int) -> None:
        """Give a photo another name; one of that name is replaced."""
        source, target = self.photo(index), self.photo(other)
        if source.exists() and source.suffix == target.suffix:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)

    def remove(self, index: int) -> None:
        """Remove a photo, but for the last two, which matching needs."""
        if self.photo(index).exists() and len(self.photos()) > 2:
            self.photo(index).unlink()

    def mask(self, index: int, rows: int) -> None:
        """Ignore the upper rows of a photo; 0 removes its mask."""
        path = self.folder / "masks" / f"{NAMES[index]}.png"
        path.unlink(missing_ok=True)
        if rows and self.photo(index).exists():
            mask = np.full(cv2.imread(str(self.photo(index))).shape[:2], 255, np.uint8)
            mask[:rows] = 0
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask)

    def replace_weights(self, index: int) -> None:
        """Put another checkpoint under the name that the conf has."""
        shutil.copyfile(self.weights[index], self.folder / "weights.pth")

    def set_conf(self, max_keypoints: int) -> None:
        """Write the conf."""
        conf = {
            "output": "features",
            "model": {
                "name": "disk",
                "weights": str(self.folder / "weights.pth"),
                "max_keypoints": max_keypoints,
            },
            "preprocessing": {"resize_max": 128},
        }
        (self.folder / "extractor.yaml").write_text(yaml.safe_dump(conf))

    def run(self, output: str) -> None:
        """Run to the end, as the messages advise.

        Where the conf or the weights are others, that is from scratch; a mask that does not fit its
        photo is removed.
        """
        options = {
            "extractor": str(self.folder / "extractor.yaml"),
            "masks": {"folder": self.folder / "masks"},
            "device": "cpu",
        }
        # Files change here within the time in which none would be remembered.
        inputs._RACY_SECONDS = 0.02
        images, out = self.folder / "photos", self.folder / output
        for _ in range(2):
            try:
                matching.main(images, out, **options)
                return
            except DiskHlocError as error:
                if "another aspect ratio" in str(error):
                    self.remove_unfit_masks()
                elif "another conf" in str(error):
                    options["overwrite"] = True
                else:
                    raise
        matching.main(images, out, **options)

    def remove_unfit_masks(self) -> None:
        """Remove the masks of photos that were replaced by others of another size."""
        for photo in self.photos():
            mask = self.folder / "masks" / f"{photo.relative_to(self.folder / 'photos')}.png"
            if mask.exists():
                sizes = {cv2.imread(str(path)).shape for path in (photo, mask)}
                if len(sizes) > 1:
                    mask.unlink()

    def files(self, output: str) -> dict[str, bytes]:
        """Return the content of the files of a run."""
        return {name: (self.folder / output / name).read_bytes() for name in FILES}


def run(folder: Path, weights: list[Path], output: str) -> None:
    """Run in this process, which may be killed."""
    Input(folder, weights).run(output)
