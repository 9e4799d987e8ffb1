"""Measure retrieval, matching and the files with thousands of simulated images.

    python benchmarks/simulate.py [--images 1000 10000 20000 100000] [--keypoints 256]
                                  [--most-pairs 400000] [--folder DIR] [--json OUT]

Each image has synthetic local and global descriptors, and shares some of them with its neighbours.
Retrieval chooses 20 images for each image, and these pairs are matched (an even subset of them if
there are more than ``--most-pairs``). Except for extraction, all steps use the same files as with
real photos. Each step runs in its own process, and its memory is in MB above the memory before the
step. Caches are limited to 64 MB instead of up to 1 GB, so that growing memory is visible.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report
from memory import run_in_new_process

from disk_hloc.io.hloc.features import feature_entry
from disk_hloc.io.hloc.global_features import global_entry
from disk_hloc.io.hloc.matches import list_pairs
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.store import store
from disk_hloc.plugin import find_conf
from disk_hloc.stages import match, retrieve

PAIRS_PER_IMAGE = 20
GLOBAL_LENGTH = 256
CACHE_BYTES = 1 << 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 20_000, 100_000])
    parser.add_argument("--keypoints", type=int, default=256, help="per image (default 256)")
    parser.add_argument(
        "--most-pairs", type=int, default=400_000, help="pairs to match (default 400000)"
    )
    parser.add_argument(
        "--folder", type=Path, help="for the files, 300 KB per image (default: /tmp)"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {"keypoints": args.keypoints}
    for count in args.images:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            simulate(figures, count, args.keypoints, args.most_pairs, Path(name))
        report.write(args.json, figures)


def simulate(
    figures: dict[str, Any], count: int, keypoints: int, most_pairs: int, folder: Path
) -> None:
    title = f"{count} images"
    for step, (prepare, arguments, made) in {
        "write features": (features, (count, keypoints), "features.h5"),
        "write global descriptors": (global_features, (count,), "global.h5"),
        "retrieve": (retrieval, (), "pairs.txt"),
        "match": (matching, (most_pairs,), "matches.h5"),
    }.items():
        memory, seconds = run_in_new_process(timed, prepare, folder, *arguments)
        if step == "match":
            figures[f"{title}: pairs"] = len(read_pairs(folder / "pairs.txt"))
            count = figures[f"{title}: pairs matched"] = len(list_pairs(folder / "matches.h5"))
        joined = float((folder / "joined.txt").read_text())
        figures[f"{title}, {step}: ms each"] = 1000 * (seconds - joined) / count
        figures[f"{title}, {step}: ms each to make the file of the journal"] = 1000 * joined / count
        figures[f"{title}, {step}: MB of memory"] = memory
        figures[f"{title}, {step}: MB on disk"] = (folder / made).stat().st_size / 2**20
        print(f"{title}, {step}: {seconds:.1f} s", flush=True)


def timed(prepare: Callable[..., Callable[[], object]], folder: Path, *arguments: Any) -> Any:
    """Return the step as a task, which records the time to write the file from the journal."""
    task, make = prepare(folder, *arguments), store._make
    seconds = 0.0

    def timed_make(*of: Any) -> None:
        nonlocal seconds
        start = time.perf_counter()
        make(*of)
        seconds += time.perf_counter() - start

    def run() -> None:
        store._make = timed_make
        task()
        (folder / "joined.txt").write_text(str(seconds))

    return run


def features(folder: Path, count: int, keypoints: int) -> Callable[[], object]:
    def run() -> None:
        rng = np.random.default_rng(0)
        pool = unit(rng.normal(size=(2 * keypoints, 128)))
        scores = rng.uniform(size=keypoints).astype(np.float32)
        xy = rng.uniform(0, 1600, (keypoints, 2)).astype(np.float32)
        with store.writing(folder / "features.h5", {}) as made:
            for i in range(count):
                # Half of the descriptors are shared with the next image.
                own = np.roll(pool, -i * keypoints // 2, axis=0)[:keypoints]
                arrays = {
                    "keypoints": xy,
                    "keypoint_scores": scores,
                    "scores": scores,
                    "descriptors": own.T.astype(np.float16),
                    "image_size": np.array([1600, 1200]),
                }
                made.add(*feature_entry(name_of(i), arrays, 1.0))

    return run


def global_features(folder: Path, count: int) -> Callable[[], object]:
    def run() -> None:
        rng = np.random.default_rng(0)
        walk = np.zeros(GLOBAL_LENGTH)
        with store.writing(folder / "global.h5", {}) as made:
            for i in range(count):
                # A random walk makes neighbours similar.
                walk = 0.9 * walk + rng.normal(size=GLOBAL_LENGTH)
                made.add(*global_entry(name_of(i), unit(walk).astype(np.float32)))

    return run


def retrieval(folder: Path) -> Callable[[], object]:
    retrieve.QUERY_BYTES = retrieve.DATABASE_BYTES = CACHE_BYTES
    return lambda: retrieve.main(folder / "global.h5", folder / "pairs.txt", PAIRS_PER_IMAGE)


def matching(folder: Path, most_pairs: int) -> Callable[[], object]:
    lines = (folder / "pairs.txt").read_text().splitlines()
    chosen = lines[:: -(-len(lines) // most_pairs)]
    (folder / "chosen.txt").write_text("\n".join(chosen))
    conf = find_conf("matchers", "disk")
    match.CACHE_BYTES = CACHE_BYTES
    files = (folder / name for name in ("chosen.txt", "features.h5", "matches.h5"))
    return lambda: match.main(conf, *files)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Normalize vectors along the last axis."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def name_of(number: int) -> str:
    return f"{number % 100:02}/{number:07}.jpg"


if __name__ == "__main__":
    main()
