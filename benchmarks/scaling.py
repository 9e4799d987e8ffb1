"""Measure how time and memory grow with the size of photos, keypoints, photos and pairs.

    python benchmarks/scaling.py [--photos DIR] [--largest 8] [--images 1000 10000 100000]
                                 [--json OUT]

Extraction is compared with kornia's DISK, and matching with one product of all descriptors as in
hloc; the compared runs alternate in one process. Memory and the steps from file to file are
measured in separate processes, in MB above the memory before the step. Large numbers of images are
simulated (simulate.py).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import report
import torch
from memory import extraction, matching, run_in_new_process
from simulate import simulate

from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match

MEGAPIXELS = (0.5, 1, 2, 4, 8)
KEYPOINTS = (1_000, 3_000, 10_000, 30_000)
COPIES = (1, 2, 4)  # of each photo
SIMULATED_KEYPOINTS = 256
SIMULATED_PAIRS = 400_000


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument(
        "--largest", type=float, default=8, help="Mpx; kornia needs 2 GB per Mpx (default 8)"
    )
    parser.add_argument(
        "--images", type=int, nargs="*", default=[1_000], help="simulated images (see simulate.py)"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    photo = args.photos / list_images(args.photos)[0]
    for megapixels in MEGAPIXELS:
        if megapixels <= args.largest:
            height = round((megapixels * 1e6 * 3 / 4) ** 0.5 / 16) * 16
            size = (photo, height * 4 // 3, height)
            compare(figures, f"{megapixels} Mpx", extraction, ("ours, float32", "kornia"), *size)
    for count in KEYPOINTS:
        compare(figures, f"{count} x {count} keypoints", matching, ("ours", "all at once"), count)
    with tempfile.TemporaryDirectory() as name:
        for copies in COPIES:
            folder = Path(name) / str(copies)
            count = copy_photos(args.photos, folder / "photos", copies)
            file_to_file(figures, f"{count} photos", extracting, count, folder)
            pairs = count * (count - 1) // 2
            file_to_file(figures, f"{pairs} pairs", pairing, pairs, folder)
    for count in args.images:
        with tempfile.TemporaryDirectory() as name:
            simulate(figures, count, SIMULATED_KEYPOINTS, SIMULATED_PAIRS, Path(name))
    report.write(args.json, figures)


def compare(
    figures: dict[str, float],
    title: str,
    prepare: Callable[..., Callable[[], object]],
    peers: tuple[str, ...],
    *arguments: object,
) -> None:
    runs = {who: prepare(who, *arguments) for who in peers}
    for who, seconds in report.medians(report.alternate(runs, 1)).items():
        figures[f"{title}, {who}: seconds"] = seconds
    runs.clear()
    for who in peers:
        figures[f"{title}, {who}: MB"], _ = run_in_new_process(prepare, who, *arguments)


def file_to_file(
    figures: dict[str, float],
    title: str,
    prepare: Callable[..., Callable[[], object]],
    count: int,
    folder: Path,
) -> None:
    figures[f"{title}: MB"], seconds = run_in_new_process(prepare, folder)
    figures[f"{title}: seconds each"] = seconds / count


def copy_photos(photos: Path, folder: Path, copies: int) -> int:
    folder.mkdir(parents=True)
    for i in range(copies):
        for name in list_images(photos):
            os.symlink((photos / name).resolve(), folder / f"{i}_{Path(name).name}")
    return len(list_images(folder))


def extracting(folder: Path) -> Callable[[], object]:
    """Return a task that extracts 2,048 keypoints from all photos of a folder."""
    conf = find_conf("extractors", "disk-2k")
    return lambda: extract.main(conf, folder / "photos", folder / "features.h5")


def pairing(folder: Path) -> Callable[[], object]:
    """Return a task that matches all pairs of the photos."""
    conf, pairs = find_conf("matchers", "disk"), folder / "pairs.txt"
    write_pairs(pairs, list(combinations(list_images(folder / "photos"), 2)))
    return lambda: match.main(conf, pairs, folder / "features.h5", folder / "matches.h5")


if __name__ == "__main__":
    main()
