"""Measure how time and memory grow from tens to thousands of photos, and compare the mappers.

    python benchmarks/mapping.py [--photos 50 200 1000 3000] [--world town]
        [--mappers incremental hierarchical global] [--size 320 240] [--known-camera]
        [--work DIR] [--json OUT]

Photos are drawn, so that their poses are known: of a town that grows with their number (town.py),
or all of one room. Each stage runs in a process of its own. Memory is the largest sum of what it
and its own processes hold, sampled; libraries that they share count once for each. Errors are of
positions, after the model was brought onto the truth by a similarity.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import report
import town

from disk_hloc.dataset.synthetic import camera_poses
from disk_hloc.eval.model import pose_errors
from disk_hloc.io import colmap
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.images import list_images
from disk_hloc.pipelines import matching
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, reconstruct, verify
from disk_hloc.synthetic_room import make_room, write_scene

EXTRACTOR = "disk-2k"
MAPPERS = ("incremental", "hierarchical", "global")
_SAMPLE_SECONDS = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[50, 200, 1000, 3000])
    parser.add_argument("--world", choices=WORLDS, default="town")
    parser.add_argument("--mappers", nargs="+", default=list(MAPPERS), choices=MAPPERS)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"))
    parser.add_argument("--known-camera", action="store_true", help="give the camera to the mapper")
    parser.add_argument("--work", type=Path, help="folder for photos and models, which are kept")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for photos in args.photos:
            folder = (args.work or Path(scratch)) / str(photos)
            measure(figures, photos, folder, args)
    report.write(args.json, figures)


def measure(figures: dict[str, float], photos: int, folder: Path, args: argparse.Namespace) -> None:
    """Add the figures of a town's photos."""
    drawn = folder / args.world
    if not (drawn / "poses.txt").is_file():
        WORLDS[args.world](drawn, photos, size=tuple(args.size))
    camera = None
    if args.known_camera:
        model, _, _, parameters = read_camera(drawn / "camera.txt")
        camera = f"{model} {','.join(map(str, parameters))}"
    for name, stage in (("extract", extracting), ("pairs and match", matched)):
        note(figures, f"{photos} photos, {name}", photos, *measured(stage, drawn, folder))
    figures[f"{photos} photos, pairs"] = len(read_pairs(folder / "pairs.txt"))
    seconds, peak = measured(verified, drawn, folder, camera)
    note(figures, f"{photos} photos, verify", photos, seconds, peak)
    truth = read_poses(drawn / "poses.txt")
    for mapper in args.mappers:
        title = f"{photos} photos, {mapper}"
        seconds, peak = measured(mapped, drawn, folder, mapper, args.known_camera)
        note(figures, title, photos, seconds, peak)
        model = colmap.read_model(folder / mapper)
        errors = pose_errors(model, truth)
        figures[f"{title}: registered"] = model.num_reg_images()
        figures[f"{title}: points"] = model.num_points3D()
        figures[f"{title}: mean error, mm"] = 1e3 * float(errors.position.mean())
        figures[f"{title}: largest error, mm"] = 1e3 * float(errors.position.max())


def draw_room(folder: Path, photos: int, *, size: tuple[int, int]) -> None:
    """Draw the room of the demo, from places scattered along a path through it."""
    poses = camera_poses(photos, np.random.default_rng(photos))
    write_scene(folder, scene=make_room(), size=size, cam_from_world=poses)


WORLDS = {"town": town.draw, "room": draw_room}


def note(
    figures: dict[str, float], title: str, photos: int, seconds: float, megabytes: float
) -> None:
    figures[f"{title}: s"] = seconds
    figures[f"{title}: ms a photo"] = 1e3 * seconds / photos
    figures[f"{title}: MB"] = megabytes
    print(f"{title}: {seconds:.1f} s, {megabytes:.0f} MB", flush=True)


def extracting(drawn: Path, folder: Path) -> None:
    extract.main(
        find_conf("extractors", EXTRACTOR), drawn / "images", folder / "features.h5", overwrite=True
    )


def matched(drawn: Path, folder: Path) -> None:
    (folder / "matches.h5").unlink(missing_ok=True)
    matching.main(drawn / "images", folder, extractor=EXTRACTOR, turn="none")


def verified(drawn: Path, folder: Path, camera: str | None) -> None:
    """Write a database with the features and verified matches; all photos share a camera."""
    database_path = folder / colmap.DATABASE
    names = list_images(drawn / "images")
    pairs = read_pairs(folder / "pairs.txt")
    ids = colmap.create_database(database_path, drawn / "images", names, "single", camera)
    files = (folder / "features.h5", pairs, folder / "matches.h5")
    best_first = colmap.import_features_and_matches(database_path, ids, *files)
    verify.main(database_path, pairs, best_first=best_first)


def mapped(drawn: Path, folder: Path, mapper: str, fix_intrinsics: bool) -> None:
    reconstruct.from_database(
        folder / mapper,
        drawn / "images",
        folder / colmap.DATABASE,
        mapper=mapper,
        fix_intrinsics=fix_intrinsics,
    )


def measured(stage: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """Run a stage in a new process; return its seconds, without its start, and its peak MB.

    Raises:
        SystemExit: it failed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, stage, arguments))
    process.start()
    sender.close()
    tree, peak = psutil.Process(process.pid), 0
    while process.is_alive():
        peak = max(peak, _held_by(tree))
        process.join(_SAMPLE_SECONDS)
    if process.exitcode != 0:
        raise SystemExit(f"{stage.__name__} failed with exit code {process.exitcode}")
    return receiver.recv(), peak / 2**20


def _run(sender, stage: Callable[..., None], arguments: tuple) -> None:
    start = time.perf_counter()
    stage(*arguments)
    sender.send(time.perf_counter() - start)


def _held_by(process: psutil.Process) -> int:
    """Return the resident memory of a process and all that it has started, in bytes."""
    held = 0
    try:
        for one in (process, *process.children(recursive=True)):
            held += one.memory_info().rss
    except psutil.NoSuchProcess:  # one has just ended: the next sample counts
        return 0
    return held


if __name__ == "__main__":
    main()
