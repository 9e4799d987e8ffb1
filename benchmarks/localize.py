"""Measure queries of a map: seconds by step, errors, refusals; and hloc's way beside it.

    python benchmarks/localize.py MAP --queries DIR --poses FILE --camera "PINHOLE fx,fy,cx,cy"
        [--others DIR] [--images DIR] [--rounds 1] [--json OUT]

The poses of the queries and of the map's photos are known: the map is brought to them by a
similarity of its camera centres. Queries are localized with the camera that is given, and without.
``--others`` are photos of other places, which have to be refused. With ``--images``, the photos of
the map, and hloc installed, each query is also localized as in hloc's notebook: its own functions,
with DISK by kornia, from file to file. Its models are loaded beforehand, and the retrieved photos
are given to it for nothing.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import report
import torch

from disk_hloc import Localizer, plugin
from disk_hloc.geometry import Pose, align
from disk_hloc.io import colmap
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.images import image_size, list_images
from disk_hloc.localizer import Localization
from disk_hloc.weights import resolve

import pycolmap  # isort: skip  (after disk_hloc, as the README says)

# Centimetres and degrees of the recall.
BOUNDS = (1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", type=Path)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--poses", type=Path, required=True, help="cam_from_world, in metres")
    parser.add_argument("--camera", required=True)
    parser.add_argument("--others", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    localizer = Localizer(args.map)
    figures: dict[str, float] = {"load: seconds": time.perf_counter() - start}
    names = list_images(args.queries)
    truth = Truth(localizer, read_poses(args.poses))

    answers: dict[str, dict[str, Localization]] = {"given": {}, "unknown": {}}
    runs: dict[str, Callable[[str], object]] = {
        "ours": lambda name: answers["given"].update(
            {name: localizer.localize(args.queries / name, args.camera)}
        )
    }
    localizer.localize(args.queries / names[0], args.camera)  # a first call is slower
    with tempfile.TemporaryDirectory() as folder:
        if args.images and plugin.find_provider():
            retrieved = {
                name: [one.name for one in localizer.localize(args.queries / name).retrieved]
                for name in names
            }
            peer = Hloc(localizer, args, Path(folder), retrieved)
            poses: dict[str, Pose] = {}
            runs["hloc"] = lambda name: poses.update({name: peer.localize(name)})
            peer.localize(names[0])
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name in names:
                for which, run in runs.items():
                    begin = time.perf_counter()
                    run(name)
                    seconds[which].append(time.perf_counter() - begin)
    for which, values in seconds.items():
        figures[f"{which}: median seconds of a query"] = statistics.median(values)
    if "hloc" in seconds:
        ratios = [b / a for a, b in zip(seconds["ours"], seconds["hloc"], strict=True)]
        figures["times as fast as hloc"] = statistics.median(ratios)
        figures |= truth.figures("hloc", poses)
    for step in next(iter(answers["given"].values())).seconds:
        values = [answer.seconds[step] for answer in answers["given"].values()]
        figures[f"ours: median seconds to {step}"] = statistics.median(values)
    for name in names:
        answers["unknown"][name] = localizer.localize(args.queries / name)
    for camera, found in answers.items():
        posed = {name: answer.pose for name, answer in found.items() if answer.pose is not None}
        figures |= truth.figures(f"ours, camera {camera}", posed)
    figures |= refusals(localizer, args, answers["given"])
    figures["peak memory: GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.write(args.json, figures)


class Truth:
    """Known poses, and how a map lies in them."""

    def __init__(self, localizer: Localizer, poses: dict[str, Pose]) -> None:
        index = localizer.index
        self.poses = poses
        known = [i for i, name in enumerate(index.names) if Path(name).name in poses]
        centers = np.array([index.pose(i).center for i in known])
        true = np.array([poses[Path(index.names[i]).name].center for i in known])
        self.scale, self.rotation, self.translation = align(centers, true)

    def figures(self, label: str, found: dict[str, Pose]) -> dict[str, float]:
        """Return the recall and the errors of localized queries, whose truth is known."""
        metres, degrees = [], []
        for name, pose in found.items():
            true = self.poses[Path(name).name]
            center = self.scale * self.rotation @ pose.center + self.translation
            metres.append(float(np.linalg.norm(center - true.center)))
            turn = pose.rotation @ self.rotation.T @ true.rotation.T
            degrees.append(float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))))
        within = sum(
            100 * m <= BOUNDS[0] and d <= BOUNDS[1] for m, d in zip(metres, degrees, strict=True)
        )
        return {
            f"{label}: localized": len(found),
            f"{label}: within {BOUNDS[0]:g} cm and {BOUNDS[1]:g} degree": within,
            f"{label}: median position error in mm": 1000 * statistics.median(metres),
            f"{label}: largest position error in mm": 1000 * max(metres),
            f"{label}: median rotation error in degrees": statistics.median(degrees),
        }


def refusals(
    localizer: Localizer, args: argparse.Namespace, right: dict[str, Localization]
) -> dict[str, float]:
    """Return how sure queries of the map are, and those of other places."""
    figures: dict[str, float] = {
        "of the map: largest log10 of chance": max(one.log10_chance for one in right.values()),
        "of the map: fewest inliers": min(one.num_inliers for one in right.values()),
        "of the map: least share of inliers": min(
            one.num_inliers / max(one.num_correspondences, 1) for one in right.values()
        ),
    }
    if args.others:
        others = [localizer.localize(args.others / name) for name in list_images(args.others)]
        others += [
            localizer.localize(args.others / name, args.camera) for name in list_images(args.others)
        ]
        figures |= {
            "of other places": len(others),
            "of other places: refused": sum(not one.localized for one in others),
            "of other places: smallest log10 of chance": min(one.log10_chance for one in others),
            "of other places: most inliers": max(one.num_inliers for one in others),
            "of other places: largest share of inliers": max(
                one.num_inliers / max(one.num_correspondences, 1) for one in others
            ),
        }
    return figures


class Hloc:
    """A query as in hloc's notebook, with models that are loaded once."""

    def __init__(
        self,
        localizer: Localizer,
        args: argparse.Namespace,
        folder: Path,
        retrieved: dict[str, list[str]],
    ) -> None:
        self.localizer, self.queries, self.camera = localizer, args.queries, args.camera
        self.folder, self.retrieved = folder, retrieved
        torch.hub.set_dir(str(folder / "hub"))
        checkpoint = folder / "hub" / "checkpoints" / "depth-save.pth"
        checkpoint.parent.mkdir(parents=True)
        shutil.copy(resolve("depth"), checkpoint)
        provider = plugin.import_provider().__name__
        self.extract, self.match, self.localize_sfm = (
            importlib.import_module(f"{provider}.{name}")
            for name in ("extract_features", "match_features", "localize_sfm")
        )
        for module in (self.extract, self.match):
            module.dynamic_load = loaded_once(module.dynamic_load)
        self.model = pycolmap.Reconstruction(localizer.map.model)
        self.ids = {image.name: image.image_id for image in self.model.images.values()}
        config = {"estimation": {"ransac": {"max_error": 12}}}
        self.estimator = self.localize_sfm.QueryLocalizer(self.model, config)

    def localize(self, name: str) -> Pose:
        features, pairs, matches = (self.folder / x for x in ("q.h5", "pairs.txt", "m.h5"))
        for path in (features, matches):
            path.unlink(missing_ok=True)
        self.extract.main(
            self.extract.confs["disk"], self.queries, image_list=[name], feature_path=features,
            overwrite=True,
        )  # fmt: skip
        retrieved = self.retrieved[name]
        pairs.write_text("".join(f"{name} {other}\n" for other in retrieved))
        self.match.main(
            self.match.confs["NN-mutual"], pairs, features=features, matches=matches,
            features_ref=self.localizer.map.features, overwrite=True,
        )  # fmt: skip
        camera = colmap.camera_object(self.camera, *image_size(self.queries / name))
        found, _ = self.localize_sfm.pose_from_cluster(
            self.estimator, name, camera,
            [self.ids[other] for other in retrieved], features, matches,
        )  # fmt: skip
        return colmap.to_pose(found["cam_from_world"])


def loaded_once(load: Callable[..., object]) -> Callable[..., object]:
    """Return hloc's function that finds a model, whose models then keep their weights."""
    made: dict[str, object] = {}

    def find(root: object, name: str) -> Callable[..., object]:
        def make(conf: object) -> object:
            if name not in made:
                made[name] = load(root, name)(conf)
            return made[name]

        return make

    return find


if __name__ == "__main__":
    main()
