"""Measure what verification costs and decides, against COLMAP's alone.

    python benchmarks/verify.py [--photos DIR ...] [--extractor disk] [--json OUT]

All pairs of each folder are matched, and verified by `pycolmap.verify_matches` alone and by
`stages/verify.py`: CPU seconds of each. A pair is labelled as true if 15 or more of its matches are
two observations of one point, in the model that is built of what COLMAP alone verified. And pairs
of photos of different folders, which see different places, say what chance is.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import report

from disk_hloc.io import colmap
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import Pair, write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.io.store import reading
from disk_hloc.pipelines import matching
from disk_hloc.plugin import find_conf
from disk_hloc.stages import mapping, match, verify

import pycolmap  # isort: skip  (after disk_hloc, as the README says)

DATA = report.PHOTOS.parent.parent
FOLDERS = [DATA / "folders/brighton/images", DATA / "folders/lund/images", report.PHOTOS]
TRUE_MATCHES = 15
PAIRS_OF_TWO_FOLDERS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, nargs="+", default=FOLDERS)
    parser.add_argument("--extractor", default="disk")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        matched = {}
        for photos in args.photos:
            name = photos.parent.name if photos.name == "images" else photos.name
            output = Path(scratch) / name
            matched[name] = matching.main(
                photos, output, extractor=args.extractor, pairs_from="exhaustive", turn="none"
            )
            for key, value in of_folder(photos, output, matched[name]).items():
                figures[f"{name}: {key}"] = value
        chances = of_different_places(matched, Path(scratch))
    if chances:
        for percent in (50, 90, 99, 100):
            value = float(np.percentile([-chance for chance in chances], percent))
            figures[f"different places: -log10 chance, {percent} %"] = value
        figures["different places: pairs"] = len(chances)
    report.write(args.json, figures)


def of_folder(photos: Path, folder: Path, matched: matching.Matched) -> dict[str, float]:
    """Verify the pairs of a folder in both ways."""
    pairs = list(combinations(list_images(photos), 2))
    base = folder / "base.db"
    ids = colmap.create_database(base, photos, matched.images, "auto", None)
    colmap.import_features_and_matches(base, ids, matched.features, pairs, matched.matches)
    paths = {name: folder / f"{name}.db" for name in ("alone", "ours")}
    for path in paths.values():
        shutil.copy(base, path)
    listed = folder / "listed.txt"
    write_pairs(listed, pairs)
    options = {"ransac": {**colmap.VERIFICATION["ransac"], "random_seed": colmap.SEED}}
    alone = cpu_seconds(lambda: pycolmap.verify_matches(paths["alone"], listed, options=options))
    ours = cpu_seconds(lambda: verify.main(paths["ours"], pairs, best_first=True))
    found = {name: colmap.read_verified(path) for name, path in paths.items()}
    accepted = {
        name: {tuple(sorted(pair)) for pair, m in pairs_of.items() if len(m) >= 30}
        for name, pairs_of in found.items()
    }
    models = folder / "models"
    models.mkdir()
    (model, *_) = mapping.incremental(paths["alone"], models, fix_intrinsics=False)
    true = true_pairs(model, matched.matches, pairs)
    return {
        "pairs": len(pairs),
        "CPU seconds, COLMAP alone": alone,
        "CPU seconds, ours": ours,
        "COLMAP alone: times the CPU time of ours": alone / ours,
        "pairs of 30 inliers, COLMAP alone": len(accepted["alone"]),
        "pairs of 30 inliers, ours": len(accepted["ours"]),
        "true pairs": len(true),
        "true pairs of 30 inliers, COLMAP alone": len(true & accepted["alone"]),
        "true pairs of 30 inliers, ours": len(true & accepted["ours"]),
        "true pairs that COLMAP alone has and ours does not": len(
            (true & accepted["alone"]) - accepted["ours"]
        ),
    }


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes, of all threads."""
    start = time.process_time()
    run()
    return time.process_time() - start


def true_pairs(model: pycolmap.Reconstruction, match_path: Path, pairs: list[Pair]) -> set[Pair]:
    """Return the pairs whose matches are observations of the model's points."""
    points = {
        image.name: np.array([p.point3D_id if p.has_point3D() else -1 for p in image.points2D], int)
        for image in colmap.registered_images(model)
    }
    true = set()
    with reading(match_path) as file:
        for first, second in pairs:
            matches = read_matches(file, first, second)
            if matches is None or first not in points or second not in points:
                continue
            seen = points[first][matches[:, 0]], points[second][matches[:, 1]]
            if ((seen[0] == seen[1]) & (seen[0] >= 0)).sum() >= TRUE_MATCHES:
                true.add(tuple(sorted((first, second))))
    return true


def of_different_places(matched: dict[str, matching.Matched], scratch: Path) -> list[float]:
    """Return log10 of the chance of random pairs of photos of different folders."""
    chances = []
    rng = random.Random(0)
    for (name0, one), (name1, other) in combinations(matched.items(), 2):
        names = rng.sample([(a, b) for a in one.images for b in other.images], PAIRS_OF_TWO_FOLDERS)
        pairs_path = scratch / f"{name0}-{name1}.txt"
        match_path = scratch / f"{name0}-{name1}.h5"
        write_pairs(pairs_path, names)
        conf = find_conf("matchers", "disk")
        match.main(conf, pairs_path, one.features, match_path, reference_path=other.features)
        chances += verify.chances_of(names, one.features, match_path, other.features)
    return chances


if __name__ == "__main__":
    main()
