"""Measure what it costs to add photos to a map, and how exact their poses are.

    python benchmarks/map_add.py --photos DIR [--poses poses.txt] [--map 192] [--add 8]
        [--extractor disk] [--work DIR] [--json OUT]

A map is built of the first photos of a folder, and some among them are left out and added; another
is built of all at once. The poses of the added photos are compared after the maps were aligned by
the camera centres of all others. Distances are in metres if the true poses are given, else in units
of the map.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import report

from disk_hloc.geometry import Pose, align, rotation_angle
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.images import list_images
from disk_hloc.io.map_folder import read_map
from disk_hloc.io.map_index import read_index
from disk_hloc.pipelines import map_add, map_build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--poses", type=Path, help="the true poses, in metres")
    parser.add_argument("--map", type=int, default=192, help="photos of the map")
    parser.add_argument("--add", type=int, default=8, help="photos to add")
    parser.add_argument("--extractor", default="disk")
    parser.add_argument("--camera-mode", default="single")
    parser.add_argument("--work", type=Path, help="folder for the maps, which are kept")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report.write(args.json, measure(args, args.work or Path(scratch)))


def measure(args: argparse.Namespace, work: Path) -> dict[str, float]:
    """Build both maps, add the photos to one, and return the figures."""
    names = list_images(args.photos)[: args.map + args.add]
    places = np.linspace(0, len(names) - 1, args.add + 2).round().astype(int)[1:-1]
    new = [names[i] for i in places]
    old = [name for name in names if name not in new]
    folders = {}
    for key, chosen in (("all", names), ("old", old), ("new", new)):
        folders[key] = work / f"photos-{key}"
        for name in chosen:
            path = folders[key] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to((args.photos / name).resolve())
    for name in ("map", "whole"):
        shutil.rmtree(work / name, ignore_errors=True)
    options = {"extractor": args.extractor, "camera_mode": args.camera_mode}
    figures = {
        "build of all, s": timed(lambda: map_build.main(folders["all"], work / "whole", **options)),
        "build of the map, s": timed(
            lambda: map_build.main(folders["old"], work / "map", **options)
        ),
    }
    before = poses_of(work / "map")
    figures["add, s"] = timed(lambda: map_add.main(work / "map", folders["new"]))
    figures["add / build of all"] = figures["add, s"] / figures["build of all, s"]
    after, whole = poses_of(work / "map"), poses_of(work / "whole")
    figures["photos of the map whose pose changed"] = sum(
        not (
            np.array_equal(before[name].quaternion, after[name].quaternion)
            and np.array_equal(before[name].translation, after[name].translation)
        )
        for name in before
    )
    figures["photos added"] = len(after) - len(before)
    metres, truth = 1.0, None
    if args.poses is not None:
        truth = read_poses(args.poses)
        metres, _, _ = by_others(old, after, truth)
    pairs = {"added, and as of one build": (whole, after, metres)}
    if truth is not None:
        pairs["added, and true"] = (after, truth, 1.0)
        pairs["as of one build, and true"] = (whole, truth, 1.0)
    for label, (source, target, unit) in pairs.items():
        distances, angles = differences(new, old, source, target)
        figures[f"{label}: median distance"] = unit * float(np.median(distances))
        figures[f"{label}: largest distance"] = unit * float(distances.max())
        figures[f"{label}: largest angle, degrees"] = float(angles.max())
    return figures


def poses_of(folder: Path) -> dict[str, Pose]:
    """Return photo -> pose of a map."""
    index = read_index(read_map(folder).index)
    return {name: index.pose(i) for i, name in enumerate(index.names)}


def by_others(
    others: Sequence[str], source: Mapping[str, Pose], target: Mapping[str, Pose]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return ``target_from_source`` by the centres of photos that both have."""
    names = [name for name in others if name in source and name in target]
    return align(
        np.array([source[name].center for name in names]),
        np.array([target[name].center for name in names]),
    )


def differences(
    names: Sequence[str],
    others: Sequence[str],
    source: Mapping[str, Pose],
    target: Mapping[str, Pose],
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances of centres in the target's unit, and angles in degrees, after alignment."""
    scale, rotation, translation = by_others(others, source, target)
    distances, angles = [], []
    for name in names:
        if name not in source or name not in target:
            distances.append(np.inf)
            angles.append(np.inf)
            continue
        center = scale * rotation @ source[name].center + translation
        distances.append(float(np.linalg.norm(center - target[name].center)))
        turned = source[name].rotation @ rotation.T
        angles.append(rotation_angle(turned @ target[name].rotation.T))
    return np.array(distances), np.array(angles)


def timed(run: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
