"""Measure the cost of the crash-safe store, compared with plain h5py.

    python benchmarks/store.py [--photos DIR] [--rounds 5] [--pairs 2000]
                               [--folder DIR] [--json OUT]

The same stages write through the store, through h5py as hloc does (the file is opened and closed
for each entry), and not at all. Then entries are written without computing them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import report

from disk_hloc.io.hloc.features import feature_entry
from disk_hloc.io.hloc.matches import match_entry, names_to_pair
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.io.store import writing
from disk_hloc.io.store.journal import Dataset
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match

Add = Callable[[str, Sequence[Dataset]], None]


class Appends:
    """Replaces the store in a stage."""

    base = None
    names: frozenset[str] = frozenset()

    def __init__(self, add: Add) -> None:
        self.add = add


def create(file: h5py.File, name: str, datasets: Sequence[Dataset]) -> None:
    """Write an entry with h5py's own functions."""
    group = file.create_group(name)
    for dataset in datasets:
        stored = group.create_dataset(dataset.path[len(name) + 1 :], data=dataset.array)
        stored.attrs.update(dataset.attributes)


@contextmanager
def appending(path: Path, conf: Mapping[str, Any], **_: object) -> Iterator[Appends]:
    """Write as hloc does, and open the file for each entry."""

    def add(name: str, datasets: Sequence[Dataset]) -> None:
        with h5py.File(path, "a", libver="latest") as file:
            create(file, name, datasets)

    path.unlink(missing_ok=True)
    yield Appends(add)


@contextmanager
def in_one_open_file(path: Path, conf: Mapping[str, Any], **_: object) -> Iterator[Appends]:
    """Keep the file open, which is fastest, but loses everything in a crash."""
    with h5py.File(path, "w", libver="latest") as file:
        yield Appends(lambda name, datasets: create(file, name, datasets))


@contextmanager
def without_writing(path: Path, conf: Mapping[str, Any], **_: object) -> Iterator[Appends]:
    """Write nothing, to measure the stage alone."""
    yield Appends(lambda name, datasets: None)


WRITERS = {
    "store": writing,
    "h5py, opened for each": appending,
    "h5py, kept open": in_one_open_file,
    "nothing written": without_writing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure (default: /tmp)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        names = list_images(args.photos)
        pairs = list(combinations(names, 2))
        write_pairs(folder / "pairs.txt", pairs)
        extractor, matcher = find_conf("extractors", "disk-2k"), find_conf("matchers", "disk")

        def extracting(writer: Any) -> Callable[[], object]:
            def run() -> None:
                extract.writing = writer
                extract.main(extractor, args.photos, folder / "features.h5", overwrite=True)

            return run

        def pairing(writer: Any) -> Callable[[], object]:
            def run() -> None:
                match.writing = writer
                match.main(matcher, folder / "pairs.txt", folder / "features.h5",
                           folder / "matches.h5", overwrite=True)  # fmt: skip

            return run

        compare(figures, "extract, a photo", extracting, len(names), args.rounds)
        extract.writing = writing
        extract.main(extractor, args.photos, folder / "features.h5", overwrite=True)
        compare(figures, "match, a pair", pairing, len(pairs), args.rounds)
        entries = synthetic_features(200), synthetic_matches(args.pairs)
        for title, chosen in zip(("write, an image", "write, a pair"), entries, strict=True):

            def alone(writer: Any, chosen: Any = chosen) -> Callable[[], object]:
                def run() -> None:
                    with writer(folder / "entries.h5", {}, overwrite=True) as store:
                        for entry in chosen:
                            store.add(*entry)

                return run

            compare(figures, title, alone, len(chosen), args.rounds)
    report.write(args.json, figures)


def compare(
    figures: dict[str, Any],
    title: str,
    prepare: Callable[[Any], Callable[[], object]],
    count: int,
    rounds: int,
) -> None:
    found = report.medians(
        report.alternate({name: prepare(writer) for name, writer in WRITERS.items()}, rounds)
    )
    for name, seconds in found.items():
        figures[f"{title}, {name}: ms"] = 1000 * seconds / count
    figures[f"{title}: store / opened for each"] = found["store"] / found["h5py, opened for each"]
    figures[f"{title}: store / nothing written"] = found["store"] / found["nothing written"]


def synthetic_features(count: int) -> list[tuple[str, list[Dataset]]]:
    """Return the features of images with 5,000 keypoints."""
    rng = np.random.default_rng(0)
    features = {
        "keypoints": rng.uniform(0, 1600, (5000, 2)).astype(np.float32),
        "keypoint_scores": rng.uniform(size=5000).astype(np.float32),
        "scores": rng.uniform(size=5000).astype(np.float32),
        "descriptors": rng.normal(size=(128, 5000)).astype(np.float16),
        "image_size": np.array([1600, 1200]),
    }
    return [feature_entry(f"{i:06}.jpg", features, 1.0) for i in range(count)]


def synthetic_matches(count: int) -> list[tuple[str, list[Dataset]]]:
    """Return the matches of pairs of images with 5,000 keypoints, with 20 pairs per image."""
    rng = np.random.default_rng(0)
    matches0, scores0 = rng.integers(-1, 5000, 5000), rng.uniform(size=5000)
    return [
        match_entry(
            names_to_pair(f"{i // 20:06}.jpg", f"{i // 20 + i % 20 + 1:06}.jpg"), matches0, scores0
        )
        for i in range(count)
    ]


if __name__ == "__main__":
    main()
