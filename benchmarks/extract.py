"""Measure the speed of extracting DISK's features, compared with kornia's DISK as hloc calls it.

    python benchmarks/extract.py [--photos DIR] [--rounds 5] [--json OUT]

Photos are resized to 1024 x 768, with 2,048 keypoints. The floor is the time of the network's
arithmetic at the machine's rate of matrix products, with direct convolutions and with descriptors
computed at keypoints only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import kornia.feature
import numpy as np
import report
import torch

from disk_hloc.io.images import list_images, read_image
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.extractors.kornia_xfeat import XFeat
from disk_hloc.weights import load_disk

WIDTH, HEIGHT, KEYPOINTS = 1024, 768, 2048
# Input channels, output channels, and the factor by which each side of the image is smaller.
LAYERS = (
    (3, 16, 1), (16, 32, 2), (32, 64, 4), (64, 64, 8), (64, 64, 16),
    (128, 64, 8), (128, 64, 4), (96, 64, 2), (80, 1, 1),
)  # fmt: skip


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = WIDTH, HEIGHT
    images = [load(args.photos / name, size).to(device) for name in list_images(args.photos)]
    conf = {"max_keypoints": KEYPOINTS, "subpixel": False}
    precisions = ("float32", "bfloat16") + (("float16",) if device.type == "cuda" else ())
    ours = {name: DISK({**conf, "precision": name}).to(device) for name in precisions}
    reference = kornia_disk(device)

    figures: dict[str, float] = {}
    for name, model in ours.items():
        shared, cosines = zip(*(compare(model, reference, image) for image in images), strict=True)
        figures[f"{name}: keypoints as kornia's, worst photo"] = min(shared)
        figures[f"{name}: descriptors' cosine, worst"] = min(cosines)
    runs = {"kornia": lambda: reference(images[0], n=KEYPOINTS, pad_if_not_divisible=True)}
    for name, model in ours.items():
        runs[name] = lambda model=model: model({"image": images[0]})
    xfeat = XFeat({"max_keypoints": KEYPOINTS}).to(device)
    runs["XFeat"] = lambda: xfeat({"image": images[0]})
    seconds = report.medians(report.alternate(runs, args.rounds))
    flop = flop_of(WIDTH, HEIGHT, KEYPOINTS)
    for name, value in seconds.items():
        figures[f"{name}: seconds"] = value
        if name != "kornia":
            figures[f"{name}: times as fast as kornia"] = seconds["kornia"] / value
    if device.type == "cpu":
        for name in ours:
            floor = flop / 1e9 / report.gflops(dtype=getattr(torch, name))
            figures[f"{name}: floor in seconds"] = floor
            figures[f"{name}: time over floor"] = seconds[name] / floor
    report.write(args.json, figures)


def kornia_disk(device: torch.device) -> kornia.feature.DISK:
    """Return kornia's DISK with the published weights."""
    model = kornia.feature.DISK().to(device).eval()
    model.load_state_dict(load_disk("depth"))
    return model


def flop_of(width: int, height: int, keypoints: int) -> float:
    """Return the floating-point operations of one image with descriptors at keypoints only."""
    maps = sum(2 * 25 * a * b * width * height / s**2 for a, b, s in LAYERS)
    return maps + 2 * 25 * 80 * 128 * keypoints


def load(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """Return (1, 3, H, W) of a photo that is resized to a width and height."""
    resized = cv2.resize(read_image(path), size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(resized.transpose(2, 0, 1).astype(np.float32) / 255)[None]


def compare(model: DISK, reference: Any, image: torch.Tensor) -> tuple[float, float]:
    """Return the share of the reference's keypoints that are found, and their lowest cosine."""
    got = model({"image": image.to(model.device)})
    expected = reference(image, n=KEYPOINTS, pad_if_not_divisible=True)[0]
    place = {tuple(xy): i for i, xy in enumerate(expected.keypoints.tolist())}
    found = [(i, place.get(tuple(xy))) for i, xy in enumerate(got["keypoints"][0].tolist())]
    mine, theirs = zip(*((i, j) for i, j in found if j is not None), strict=True)
    a, b = got["descriptors"][0].T[list(mine)].cpu(), expected.descriptors[list(theirs)].cpu()
    return len(mine) / len(place), (a * b).sum(dim=1).min().item()


if __name__ == "__main__":
    main()
