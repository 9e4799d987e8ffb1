"""Measure which of the pairs that agree geometrically are chosen by retrieval.

    python benchmarks/pairs.py FOLDER [FOLDER ...] [--extractor disk] [--inliers 30] [--json OUT]

Each folder is a scene. Their photos are put into one folder under shuffled names; pairs of a scene
are matched and verified by pycolmap, pairs of two scenes are false. For each number of similar
photos: how many pairs are chosen, and which share of the true ones of each scene. Also how many
successive photos of each scene look alike, in the order of their names and in random orders.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import report

from disk_hloc.io.hloc.features import read_image_size, read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.plugin import find_conf
from disk_hloc.stages import describe, extract, match
from disk_hloc.stages.pairs import Photos
from disk_hloc.stages.pairs.auto import share_alike
from disk_hloc.stages.pairs.names import natural_order

import pycolmap  # isort: skip  (after disk_hloc, as the README says)

NUMBERS = (5, 10, 15, 20, 25, 30)
RANDOM_ORDERS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--extractor", default="disk")
    parser.add_argument("--inliers", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.folders, args.extractor, args.inliers)
    report.write(args.json, figures)


def measure(work: Path, folders: list[Path], extractor: str, inliers: int) -> dict[str, float]:
    """Return the figures."""
    scene_of, original = mixed(work / "photos", folders)
    names = sorted(scene_of)
    features = extract.main(find_conf("extractors", extractor), work / "photos", work / "f.h5")
    within = [pair for pair in combinations(names, 2) if scene_of[pair[0]] == scene_of[pair[1]]]
    write_pairs(work / "within.txt", within)
    start = time.process_time()
    matches = match.main(
        find_conf("matchers", "disk"), work / "within.txt", features, work / "m.h5"
    )
    figures = {"CPU seconds of matching a pair": (time.process_time() - start) / len(within)}
    true = {frozenset(p) for p in within if num_verified(features, matches, p) >= inliers}
    start = time.process_time()
    described = describe.main(find_conf("global", "disk-vlad"), features, work / "global.h5")
    figures["CPU seconds of describing all"] = time.process_time() - start
    similar = Photos(names, describe=lambda: described).similar(max(NUMBERS))
    for number in NUMBERS:
        chosen = {frozenset((a, b)) for a, found in similar.items() for b in found[:number]}
        figures[f"{number} similar: pairs"] = len(chosen)
        figures[f"{number} similar: found of all"] = len(chosen & true) / len(true)
        for scene in folders:
            of_scene = {pair for pair in true if scene_of[min(pair)] == scene}
            figures[f"{number} similar: found of {scene}"] = len(chosen & of_scene) / len(of_scene)
    for scene in folders:
        order = [name for name in names if scene_of[name] == scene]
        order.sort(key=lambda name: natural_order(original[name]))
        figures[f"successive of {scene}: alike"] = share_alike(order, similar)
        shares = (
            share_alike(random.Random(seed).sample(order, len(order)), similar)
            for seed in range(RANDOM_ORDERS)
        )
        figures[f"successive of {scene}: alike in a random order, at most"] = max(shares)
    return figures


def mixed(output: Path, folders: list[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Link the photos of all folders under shuffled names.

    Returns:
        Name -> its folder, and name -> its name there.
    """
    output.mkdir()
    photos = [(folder, name) for folder in folders for name in list_images(folder)]
    random.Random(0).shuffle(photos)
    scene_of, original = {}, {}
    for i, (folder, name) in enumerate(photos):
        link = f"{i}{Path(name).suffix}"
        (output / link).symlink_to((folder / name).resolve())
        scene_of[link], original[link] = folder, name
    return scene_of, original


def num_verified(features: Path, matches: Path, pair: tuple[str, str]) -> int:
    """Return how many matches of a pair agree with one geometry of two views."""
    with h5py.File(matches) as file:
        indices = read_matches(file, *pair)
    points, cameras = [], []
    with h5py.File(features) as file:
        for name in pair:
            points.append(read_keypoints(file, name).astype(np.float64) + 0.5)
            width, height = read_image_size(file, name)
            focal = 1.2 * max(width, height)
            model = pycolmap.CameraModelId.SIMPLE_RADIAL
            cameras.append(pycolmap.Camera.create_from_model_id(1, model, focal, width, height))
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_num_trials = 2000
    options.ransac.min_inlier_ratio = 0.1
    found = pycolmap.estimate_two_view_geometry(
        cameras[0], points[0], cameras[1], points[1], indices.astype(np.uint32), options
    )
    return len(found.inlier_matches)


if __name__ == "__main__":
    main()
