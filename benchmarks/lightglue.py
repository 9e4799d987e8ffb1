"""Measure LightGlue's pairs a second, compared with kornia's, on real photos.

    python benchmarks/lightglue.py [--photos DIR] [--keypoints 2048 5000] [--rounds 3] [--json OUT]

Photos are resized to 1600 x 1200. The matches have to be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import report
import torch
from extract import load

from disk_hloc.io.images import list_images
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue

SIZE = (1600, 1200)
PHOTOS = 3


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument("--keypoints", type=int, nargs="+", default=[2048, 5000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, object] = {}
    for count in args.keypoints:
        figures |= measure(args.photos, count, SIZE, args.rounds, torch.device("cpu"))
    report.write(args.json, figures)


def measure(
    photos: Path, count: int, size: tuple[int, int], rounds: int, device: torch.device
) -> dict[str, object]:
    """Match all pairs of a few photos, by ours and by kornia's."""
    names = list_images(photos)[:PHOTOS]
    pairs = pairs_of([load(photos / name, size).to(device) for name in names], count)
    models = {"ours": DiskLightGlue({}).to(device), "kornia": kornias().to(device)}
    found = {who: [model(data)["matches0"] for data in pairs] for who, model in models.items()}
    runs = {
        who: lambda model=model: [model(data) for data in pairs] for who, model in models.items()
    }
    seconds = report.medians(report.alternate(runs, rounds))
    figures: dict[str, object] = {
        f"{count}, {who}: pairs a second": len(pairs) / value for who, value in seconds.items()
    }
    figures[f"{count}: times as fast as kornia"] = seconds["kornia"] / seconds["ours"]
    same = zip(found["ours"], found["kornia"], strict=True)
    figures[f"{count}: keypoints matched as by kornia"] = float(
        torch.cat([one == other for one, other in same], dim=1).float().mean()
    )
    return figures


def kornias() -> DiskLightGlue:
    """Return LightGlue as kornia arranges it."""
    model = DiskLightGlue({})
    for layer in model.net.transformers:
        layer.cross_attn = layer.cross_attn.block
    return model


def pairs_of(images: Sequence[torch.Tensor], count: int) -> list[dict[str, torch.Tensor]]:
    """Return what LightGlue takes, of all pairs of (1, 3, H, W) images."""
    extractor = DISK({"max_keypoints": count}).to(images[0].device)
    found = [extractor({"image": image}) for image in images]
    size = torch.tensor([images[0].shape[:1:-1]], device=images[0].device)
    return [
        {
            f"{key}{side}": found[i][key][0][None]
            for side, i in enumerate(pair)
            for key in ("keypoints", "descriptors")
        }
        | {"image_size0": size, "image_size1": size}
        for pair in combinations(range(len(images)), 2)
    ]


if __name__ == "__main__":
    main()
