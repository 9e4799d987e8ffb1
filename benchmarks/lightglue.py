"""Measure LightGlue's pairs a second, compared with kornia's, on real photos.

    python benchmarks/lightglue.py [--photos DIR] [--keypoints 2048 5000] [--rounds 3] [--json OUT]

All pairs of five photos, resized to 1600 x 1200. In float32 the matches have to be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import report
import torch
from extract import load

from disk_hloc.device import has_fast_bfloat16
from disk_hloc.io.images import list_images
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.lightglue.blocks import FirstSelfAttention
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue

SIZE = (1600, 1200)
PHOTOS = 5
PRECISIONS = {
    "cpu": ("float32", "bfloat16") if has_fast_bfloat16() else ("float32",),
    "cuda": ("float32", "float16"),
}
Data = dict[str, torch.Tensor]


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
    models: dict[str, Callable[[Data], Data]] = {
        name: DiskLightGlue({"precision": name}).to(device) for name in PRECISIONS[device.type]
    }
    models = {"kornia": partial(kornias, DiskLightGlue().to(device).net), **models}
    found = {who: [model(data)["matches0"] for data in pairs] for who, model in models.items()}
    runs = {who: partial(match, model, pairs) for who, model in models.items()}
    if device.type == "cuda":
        together = [{key: torch.cat([data[key] for data in pairs]) for key in pairs[0]}]
        runs["float16, together"] = partial(match, models["float16"], together)
        unequal = [fewer(data, 10 * i) for i, data in enumerate(pairs)]
        runs["float16, unequal numbers"] = partial(match, models["float16"], unequal)
    seconds = report.medians(report.alternate(runs, rounds))
    figures: dict[str, object] = {
        f"{count}, {who}: pairs a second": len(pairs) / value for who, value in seconds.items()
    }
    for who in list(runs)[1:]:
        figures[f"{count}, {who}: times as fast as kornia"] = seconds["kornia"] / seconds[who]
    for who in list(models)[1:]:
        figures |= agreement(f"{count}, {who}", found[who], found["kornia"])
    return figures


def match(model: Callable[[Data], Data], pairs: Sequence[Data]) -> None:
    """Match pairs, with nothing kept of a round before."""
    if isinstance(model, DiskLightGlue):
        first = model.network().self_attention[0]
        if isinstance(first, FirstSelfAttention):
            first.forget()
    for data in pairs:
        model(data)


def fewer(data: Data, count: int) -> Data:
    """Return a pair without some keypoints of its second image."""
    kept = data["keypoints1"].shape[1] - count
    return {
        **data,
        "keypoints1": data["keypoints1"][:, :kept],
        "descriptors1": data["descriptors1"][..., :kept],
    }


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


def kornias(network: torch.nn.Module, data: Data) -> Data:
    """Match with kornia's own network."""
    return network(
        {
            f"image{i}": {
                # It refuses keypoints outside of the image.
                "keypoints": data[f"keypoints{i}"].clamp(min=0).minimum(data[f"image_size{i}"]),
                "descriptors": data[f"descriptors{i}"].transpose(1, 2),
                "image_size": data[f"image_size{i}"],
            }
            for i in (0, 1)
        }
    )


def pairs_of(images: Sequence[torch.Tensor], count: int) -> list[Data]:
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
