"""Train DISK on one's own photos, by the model that it makes of them; before and after compared."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import yaml

from disk_hloc.dataset import from_colmap
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.eval import epipolar, stereo
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.benchmarks.calibration import read_calibrations
from disk_hloc.io.colmap import camera_object, read_model, read_verified
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.hloc.poses import Pose, read_poses
from disk_hloc.io.images import list_images
from disk_hloc.io.replace import replace_text, replaced
from disk_hloc.log import logger
from disk_hloc.plugin import find_conf
from disk_hloc.report import pictures as draw
from disk_hloc.report import tables as report
from disk_hloc.train.settings import settings as training_settings
from disk_hloc.train.settings import trainable_models

from . import sfm

# Where the annealing of DISK's training is, by epochs: penalties at their full height, and an
# inverse temperature of 46.5; the paper's last fine-tuning ended best at 45.
ANNEALED = 18
# Of a right match from its epipolar line, pixels of the photo.
THRESHOLDS = (1.0, 3.0)
GROUPS = {
    "unseen": "both photos held out",
    "half unseen": "one photo held out",
    "trained on": "both photos trained on",
}
ROWS = ("before", "after")


def main(
    image_dir: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str = "disk",
    poses: Path | None = None,
    camera: str | None = None,
    dense: Path | None = None,
    held_out: float = 0.35,
    within: tuple[float, float] = (0.2, 0.9),
    tuple_size: int = 3,
    steps: int = 200,
    image_size: tuple[int, int] = (512, 512),
    learning_rate: float = 1e-5,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    engine: str = "auto",
) -> dict[str, Any]:
    """Reconstruct, train on the model, reconstruct with the new weights, compare.

    Some photos are held out: no tuple that is trained on has one of them, and pairs of them tell
    whether the training was of use. What is done is kept, so a run that was stopped resumes.

    Args:
        image_dir: the photos, at any depth.
        output: gets ``before/`` and ``after/`` (:func:`disk_hloc.pipelines.sfm.main`),
            ``dataset/``, ``training/``, ``extractor.yaml``, a conf with the new weights, which are
            ``weights.pth``, and ``results.json``, ``results.md``, ``matches.png``.
        extractor: a conf of ours whose model is DISK; its weights are the first.
        matcher: a conf of configs/matchers.yaml, of hloc's, or a yaml file.
        poses: known poses to judge by: a poses file, or a folder of the Image Matching Challenge's
            calibration files, which bring cameras. Without them the poses of the model ``before``
            judge both, which favours what it was made of.
        camera: of all photos, ``"PINHOLE fx,fy,cx,cy"``, kept as it is.
        dense: a dense workspace of COLMAP's, of these photos, with stereo depth: the reward is then
            by depth. Without it, it is by epipolar geometry.
        held_out: share of the photos that is held out; two at least.
        within, tuple_size: of the tuples (:func:`disk_hloc.dataset.covisibility.choose_tuples`).
        steps: of the training, a tuple each.
        image_size: (width, height) that photos are resized to for it, in multiples of 16.
        learning_rate: Adam's.
        seed: of all that is random.
        overwrite: start anew.
        device: ``auto``, ``cpu``, ``cuda``, ...
        engine: of the reconstructions.

    Returns:
        What ``results.json`` holds: ``settings``, with the ``seconds`` of the training;
        ``held_out``, the photos; ``groups``: a name of :data:`GROUPS` -> ``pairs``, for ``before``
        and ``after`` the figures of :func:`pair_figures`, and ``better``, in how many pairs the
        share of right matches rose, stayed and fell; and ``models``, the figures of both.

    Raises:
        DiskHlocError: too few photos, an extractor that is none of ours, a folder with a run of
            other settings, or whatever a stage says.
    """
    conf = find_conf("extractors", extractor)
    if conf["model"]["name"] not in trainable_models():
        raise DiskHlocError(
            f"{extractor} runs {conf['model']['name']}: only the network of "
            f"{', '.join(trainable_models())} can be trained"
        )
    options = {
        "reward": "epipolar" if dense is None else "depth",
        "width": image_size[0],
        "height": image_size[1],
        "batch_size": 1,
        "chunk_size": steps,
        "n_epochs": 1,
        "epoch_offset": ANNEALED,
        "load": conf["model"].get("weights", "depth"),
        "learning_rate": learning_rate,
    }
    training = training_settings("disk", options)
    settings = {
        "images": list_images(image_dir),
        "extractor": conf,
        "matcher": matcher,
        "camera": camera,
        "dense": str(dense) if dense else None,
        "held_out": held_out,
        "covisible": list(within),
        "tuple_size": tuple_size,
        "seed": seed,
        "training": options,
    }
    _claim(output, settings, overwrite)
    shared: dict[str, Any] = {
        "matcher": matcher,
        "camera": camera,
        "fix_intrinsics": camera is not None,
        "device": device,
        "engine": engine,
    }
    _reconstruct(image_dir, output / "before", extractor, shared)
    model = read_model(output / "before" / "sfm")
    model_cameras, model_poses = epipolar.of_model(model)
    names = sorted(model_poses)
    truth, cameras = _known(poses, camera, names)
    unseen = held_out_images(names, held_out, tuple_size)
    dataset = output / "dataset" / "dataset.json"
    if not dataset.exists():
        from_colmap.main(
            output / "before" / "sfm" if dense is None else dense / "sparse",
            image_dir if dense is None else dense / "images",
            dataset.parent,
            only=set(names) - set(unseen),
            with_depth=dense is not None,
            within=within,
            size=tuple_size,
            seed=seed,
        )
    weights, seconds = _train(dataset, output, training, seed, device)
    tuned = output / "extractor.yaml"
    new_conf = {
        **conf,
        "output": f"{conf['output']}-finetuned",
        "model": {**conf["model"], "weights": str(weights.absolute())},
    }
    replace_text(tuned, yaml.safe_dump(new_conf, sort_keys=False))
    _reconstruct(image_dir, output / "after", str(tuned), shared)
    judged_by = "known poses" if truth else "the poses of the model before"
    results: dict[str, Any] = {
        "settings": {**settings, "judged_by": judged_by, "seconds": seconds},
        "held_out": unseen,
        "groups": {},
        "models": {row: _model_figures(output / row, truth) for row in ROWS},
    }
    judged = truth or model_poses
    for group, pairs in _grouped(sorted(set(names) & set(judged)), unseen).items():
        found = {row: _pairs(output / row, pairs, cameras or model_cameras, judged) for row in ROWS}
        shares = [found[row].pop("shares") for row in ROWS]
        results["groups"][group] = {"pairs": len(pairs), **found, "better": _changes(*shares)}
    lines = table(results)
    report.write(output, "Fine-tuning", results, lines, _note(judged_by))
    files = {
        row: (output / row / "features.h5", output / row / "matches.h5", output / row / "sfm")
        for row in ROWS
    }
    draw.same_pair(image_dir, files, list(combinations(unseen, 2)), output / "matches.png")
    return results


def held_out_images(names: Sequence[str], share: float, tuple_size: int) -> list[str]:
    """The photos that are held out, spread evenly over the names.

    Raises:
        DiskHlocError: an impossible share, or too few photos are left to train on.
    """
    if not 0 < share < 1:
        raise DiskHlocError(f"a share of {share} of the photos cannot be held out: 0.35 is usual")
    count = max(2, round(share * len(names)))
    if len(names) - count < tuple_size:
        raise DiskHlocError(
            f"with {count} of {len(names)} photos held out there is no tuple of {tuple_size} to "
            "train on: more photos of the model, a smaller share or smaller tuples are needed"
        )
    return [names[int((i + 0.5) * len(names) / count)] for i in range(count)]


def table(results: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the results, a heading first."""
    heading = ["pairs", "", "weights", "matches", "verified", "right"]
    heading += [f"within {limit:g} px" for limit in THRESHOLDS] + ["mAA 5/10"]
    lines = [heading]
    for group, found in results["groups"].items():
        for row in ROWS:
            figures = found[row]
            lines.append(
                [
                    group,
                    str(found["pairs"]),
                    row,
                    f"{figures['matches']:.1f}",
                    f"{figures['verified']:.1f}",
                    f"{figures['right']:.1f}",
                    *(_percent(figures["precision"][f"{limit:g}"]) for limit in THRESHOLDS),
                    "/".join(f"{figures['maa'][str(limit)]:.3f}" for limit in (5, 10)),
                ]
            )
    return lines


def model_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the figures of both models, a heading first."""
    models = results["models"]
    keys = [key for key in models["before"] if models["before"][key] is not None]
    return [
        ["model", *ROWS],
        *([key.replace("_", " "), *(str(models[row].get(key)) for row in ROWS)] for key in keys),
    ]


def pair_figures(
    errors: Sequence[np.ndarray], verified: Sequence[int], pose_errors: np.ndarray
) -> dict[str, Any]:
    """Figures of pairs.

    Args:
        errors: of each pair's matches, pixels from their epipolar lines.
        verified: how many matches of each pair COLMAP verified.
        pose_errors: (P,) degrees, of the relative poses that the matches give.

    Returns:
        ``matches`` and ``verified``, means of a pair; ``precision``: by threshold in pixels, the
        share of all matches within it (None without matches); ``right``: matches of a pair within
        the first; ``maa`` by limit in degrees; ``shares``: (P,) of each pair within the first.
    """
    pooled = np.concatenate([*errors, np.zeros(0)])
    count = max(1, len(errors))
    first = THRESHOLDS[0]
    return {
        "matches": round(len(pooled) / count, 2),
        "verified": round(sum(verified) / count, 2),
        "right": round(float((pooled < first).sum()) / count, 2),
        "precision": {
            f"{limit:g}": round(float((pooled < limit).mean()), 4) if len(pooled) else None
            for limit in THRESHOLDS
        },
        "maa": {
            str(limit): round(stereo.mean_accuracy(pose_errors, limit), 4)
            for limit in stereo.LIMITS
        },
        "shares": np.array([(one < first).mean() if len(one) else 0.0 for one in errors]),
    }


def _pairs(
    folder: Path,
    pairs: Sequence[Pair],
    cameras: Mapping[str, pycolmap.Camera],
    poses: Mapping[str, Pose],
) -> dict[str, Any]:
    features, matches = folder / "features.h5", folder / "matches.h5"
    errors = epipolar.match_errors(features, matches, pairs, cameras, poses)
    found = read_verified(folder / "sfm" / "database.db")
    counts = [len(found.get((a, b), ())) + len(found.get((b, a), ())) for a, b in pairs]
    return pair_figures(
        errors, counts, stereo.pair_errors(features, matches, pairs, cameras, poses)
    )


def _grouped(names: Sequence[str], unseen: Sequence[str]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {group: [] for group in GROUPS}
    for pair in combinations(names, 2):
        count = sum(name in unseen for name in pair)
        groups[{2: "unseen", 1: "half unseen", 0: "trained on"}[count]].append(pair)
    return {group: pairs for group, pairs in groups.items() if pairs}


def _changes(before: np.ndarray, after: np.ndarray) -> dict[str, int]:
    return {
        "rose": int((after > before).sum()),
        "stayed": int((after == before).sum()),
        "fell": int((after < before).sum()),
    }


def _model_figures(folder: Path, truth: Mapping[str, Pose]) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    keys = ("images", "registered", "points3D", "observations", "mean_track_length")
    figures = {key: summary[key] for key in (*keys, "mean_reprojection_error")}
    if truth:
        try:
            errors = pose_errors(read_model(folder / "sfm"), truth)
        except DiskHlocError as error:
            logger.warning("%s: %s", folder, error)
            return figures
        figures["mean_position_error"] = round(float(errors.position.mean()), 6)
        figures["mean_rotation_error"] = round(float(errors.rotation.mean()), 4)
    return figures


def _known(
    poses: Path | None, camera: str | None, names: Sequence[str]
) -> tuple[dict[str, Pose], dict[str, pycolmap.Camera] | None]:
    """Known poses and cameras; of none, the model's are used."""
    cameras = None
    if camera is not None and len(camera.split()) > 1:
        # Relative poses do not depend on the photos' sizes.
        cameras = dict.fromkeys(names, camera_object(camera, 1, 1))
    if poses is None:
        logger.warning("No --poses: both weights are judged by the model of the first ones")
        return {}, cameras
    if poses.is_dir():
        if camera is not None:
            raise DiskHlocError(f"{poses} has a camera for each image: leave --camera out")
        texts, truth = read_calibrations(poses, names)
        return truth, {name: camera_object(text, 1, 1) for name, text in texts.items()}
    truth = {name: pose for name, pose in read_poses(poses).items() if name in names}
    if len(truth) < 2:
        raise DiskHlocError(
            f"{poses} has the poses of {len(truth)} of the photos of the model, which are called "
            f"{listing(list(names))}: two are the least"
        )
    return truth, cameras


def _reconstruct(image_dir: Path, folder: Path, extractor: str, options: Mapping[str, Any]) -> None:
    """The main job, once: another model may have other photos, and others would be held out."""
    if (folder / "summary.json").exists():
        logger.info("The model of %s is there already", folder)
        return
    logger.info("The main job in %s", folder)
    sfm.main(image_dir, folder, extractor=extractor, **options)


def _train(
    dataset: Path, output: Path, conf: Mapping[str, Any], seed: int, device: str
) -> tuple[Path, float | None]:
    """The new weights, and how many seconds their training took, None if other calls did it."""
    try:
        from disk_hloc.train import checkpoints, run
    except ModuleNotFoundError as error:
        raise DiskHlocError(
            f"training needs {error.name}: pip install 'disk_hloc[train]'"
        ) from error
    weights, folder = output / "weights.pth", output / "training"
    # Written when the training has ended, and whole.
    last = checkpoints.checkpoint_path(folder, ANNEALED)
    seconds = None
    if not last.exists():
        start = time.perf_counter()
        run.main(dataset, folder, dict(conf), seed=seed, device=device)
        seconds = round(time.perf_counter() - start, 1)
    with replaced(weights) as partial:
        shutil.copyfile(last, partial)
    return weights, seconds


def _claim(output: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Note the settings of a run, and check that a run that goes on has the same.

    Raises:
        DiskHlocError: it has others.
    """
    path = output / "settings.json"
    mine = json.loads(json.dumps(settings))
    if overwrite:
        for name in ("before", "after", "dataset", "training"):
            shutil.rmtree(output / name, ignore_errors=True)
        for name in ("settings.json", "weights.pth", "extractor.yaml"):
            (output / name).unlink(missing_ok=True)
    if path.is_file():
        try:
            theirs = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DiskHlocError(f"{path} cannot be read ({error}): use --overwrite") from error
        differing = [
            f"{key} ({_shown(theirs.get(key))}, now {_shown(value)})"
            for key, value in mine.items()
            if theirs.get(key) != value
        ]
        if differing:
            raise DiskHlocError(
                f"{output} holds a run of other settings: {'; '.join(differing)}; give another "
                "folder, or --overwrite"
            )
    output.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(mine, indent=2) + "\n")


def _shown(value: Any) -> Any:
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 2 else value


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _note(judged_by: str) -> str:
    groups = "; ".join(f"{name}: {meaning}" for name, meaning in GROUPS.items())
    return (
        f"Of pairs, {groups}. Matches, verified ones (COLMAP's) and right ones, which are within "
        f"{THRESHOLDS[0]:g} px, are means of a pair. A match is within a distance of its epipolar "
        f"lines, both of them, by {judged_by}; mAA is of the relative poses from the matches, at 5 "
        "and 10 degrees. Held-out photos were not trained "
        "on, but the model that was has points of theirs."
    )
