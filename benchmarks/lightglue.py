"""Measure LightGlue's pairs a second, compared with kornia's, on real photos.

    python benchmarks/lightglue.py [--photos DIR] [--keypoints 2048 5000] [--rounds 3] [--json OUT]

All pairs of five photos, resized to 1600 x 1200. In float32 the matches have to be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import report
import torch
from extract import load

from disk_hloc.io.images import list_images
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.lightglue_cpu import FirstSelfAttention, restore_blocks
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue

SIZE = (1600, 1200)
PHOTOS = 5


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
    models = {
        "kornia": kornias().to(device),
        "float32": DiskLightGlue({"precision": "float32"}).to(device),
    }
    if device.type == "cpu":
        models["bfloat16"] = DiskLightGlue({"precision": "bfloat16"})
    found = {who: [model(data)["matches0"] for data in pairs] for who, model in models.items()}
    runs = {who: partial(match, model, pairs) for who, model in models.items()}
    seconds = report.medians(report.alternate(runs, rounds))
    figures: dict[str, object] = {
        f"{count}, {who}: pairs a second": len(pairs) / value for who, value in seconds.items()
    }
    for who in list(models)[1:]:
        figures[f"{count}, {who}: times as fast as kornia"] = seconds["kornia"] / seconds[who]
        figures |= agreement(f"{count}, {who}", found[who], found["kornia"])
    return figures


def match(model: DiskLightGlue, pairs: Sequence[dict[str, torch.Tensor]]) -> None:
    """Match pairs, with nothing kept of a round before."""
    first = model.net.transformers[0].self_attn
    if isinstance(first, FirstSelfAttention):
        first.forget()
    for data in pairs:
        model(data)


def agreement(
    name: str, found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
) -> dict[str, object]:
    """Compare the ``matches0`` of some pairs, as shares of keypoints and of kornia's matches."""
    ours, theirs = torch.cat(list(found), dim=1), torch.cat(list(expected), dim=1)
    same, matched = ours == theirs, theirs >= 0
    return {
        f"{name}: keypoints matched as by kornia": float(same.float().mean()),
        f"{name}: kornia's matches found": float(same[matched].float().mean()),
        f"{name}: matches, relative to kornia's": float((ours >= 0).sum() / matched.sum()),
    }


def kornias() -> DiskLightGlue:
    """Return LightGlue with kornia's blocks."""
    model = DiskLightGlue({"precision": "float32"})
    restore_blocks(model.net)
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
