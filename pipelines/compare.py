"""Features and matchers side by side, on the same photos, pairs, cameras and mapper."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import kornia
import pycolmap
import torch
import yaml

import disk_hloc
from disk_hloc import confs, plugin
from disk_hloc.errors import DiskHlocError, NoModel, listing
from disk_hloc.eval import comparison, stereo
from disk_hloc.io import colmap
from disk_hloc.io.benchmarks.calibration import read_calibrations
from disk_hloc.io.hloc.matches import require_distinct_groups
from disk_hloc.io.hloc.pairs import read_pairs, require_plain_names
from disk_hloc.io.hloc.poses import Pose, read_poses
from disk_hloc.io.images import ImageReadError, list_images, read_image
from disk_hloc.io.replace import replace_text
from disk_hloc.log import logger
from disk_hloc.plugin import find_conf
from disk_hloc.report import pictures as draw
from disk_hloc.stages import dense, extract, match, pairs, reconstruct


@dataclass(frozen=True)
class Shared:
    """What all rows share: the arguments of :func:`main`, read and checked."""

    image_dir: Path
    output: Path
    names: list[str]
    poses: dict[str, Pose]
    cameras: dict[str, str] | None
    camera: str | None
    max_keypoints: int | None
    device: str
    model_options: dict[str, Any]
    verbose: bool

    @property
    def pairs_path(self) -> Path:
        """The pairs of all rows."""
        return self.output / "pairs.txt"


def main(
    image_dir: Path,
    output: Path,
    *,
    rows: Sequence[str],
    pairs_from: str = "exhaustive",
    max_keypoints: int | None = None,
    poses: Path | None = None,
    camera: str | None = None,
    camera_mode: str = "auto",
    engine: str = "auto",
    mapper: str = "incremental",
    robust: bool = True,
    overwrite: bool = False,
    device: str = "auto",
    verbose: bool = False,
) -> dict[str, Any]:
    """Run each row from photos to a model and measure it.

    A row that is finished is not run again; what a row has extracted and matched before it was
    stopped is kept. A row that fails has its reason in the results and does not stop the others.

    Args:
        image_dir: the photos, at any depth.
        output: gets ``results.json``, ``results.md``, ``matches.png``, ``pairs.txt``,
            ``features/`` and, for each row, ``rows/<row>/`` with matches and model.
        rows: names of configs/compare.yaml, or ``extractor/matcher``.
        pairs_from: ``exhaustive``, or a pairs file.
        max_keypoints: of an image, for every row; None leaves it to each extractor's conf.
        poses: known poses: a poses file (:mod:`disk_hloc.io.hloc.poses`), or a folder of the Image
            Matching Challenge's calibration files, which give each image its camera too.
        camera: of all images, ``"PINHOLE fx,fy,cx,cy"``. Known cameras are kept as they are.
        overwrite: run the rows anew.
        device: ``auto``, ``cpu``, ``cuda``, ...
        camera_mode, engine, mapper, robust, verbose: see
            :func:`disk_hloc.stages.reconstruct.main`. Cameras of their own need ``native``.

    Returns:
        What ``results.json`` holds: ``settings``, the same for all rows, and ``rows``: name ->
        ``figures`` (:mod:`disk_hloc.eval.comparison`), ``seconds`` of each stage (None where it
        was killed midway) and confs, or the ``reason`` why there are none.

    Raises:
        DiskHlocError: an unknown row or option, photos that cannot be read, poses or cameras that
            do not fit, results made with other settings, or no row that could be run.
    """
    plans = {name: plan(name) for name in rows}
    if not plans:
        raise DiskHlocError(f"no row is given; known: {', '.join(named_rows())}")
    names = list_images(image_dir)
    require_plain_names(names)
    require_distinct_groups(names)
    truth, cameras = _known(poses, camera, names)
    if cameras is not None and engine == "auto":
        engine = "native"
    options = {
        "engine": reconstruct.check_options(engine, camera_mode, camera, mapper),
        "camera_mode": camera_mode,
        "fix_intrinsics": camera is not None or cameras is not None,
        "mapper": mapper,
        "robust": robust,
    }
    _require_readable(image_dir, names)
    shared = Shared(
        image_dir, output, names, truth, cameras, camera, max_keypoints, device, options, verbose
    )
    if pairs_from == "exhaustive":
        pairs.exhaustive(names, shared.pairs_path)
    else:
        pairs.given(Path(pairs_from), shared.pairs_path)
    results = _former(shared, list(plans), overwrite)
    _write(output, results)
    for name, row in plans.items():
        if "figures" in results["rows"].get(name, {}):
            logger.info("%s is done already", name)
            continue
        logger.info("%s ...", name)
        try:
            results["rows"][name] = _run(name, row, shared)
        except Exception as error:  # noqa: BLE001 - whatever other people's models raise
            reason = " ".join(str(error).split())
            if not isinstance(error, DiskHlocError):
                reason = f"{type(error).__name__}: {reason}"
            logger.warning("%s was not run: %s", name, reason)
            results["rows"][name] = {"reason": reason}
        _write(output, results)
    done = {name: row for name, row in results["rows"].items() if "figures" in row}
    if not done:
        listed = "; ".join(f"{name}: {row['reason']}" for name, row in results["rows"].items())
        raise DiskHlocError(f"not one row could be run: {listed}")
    files = {name: _files(name, plan(name), output) for name in done}
    draw.same_pair(image_dir, files, read_pairs(shared.pairs_path), output / "matches.png")
    return results


def named_rows() -> dict[str, dict[str, str]]:
    """The rows of configs/compare.yaml: name -> ``{extractor, matcher}`` or ``{dense}``."""
    text = resources.files("disk_hloc.configs").joinpath("compare.yaml").read_text("utf-8")
    rows: dict[str, dict[str, str]] = yaml.safe_load(text)
    return rows


def plan(row: str) -> dict[str, str]:
    """What a row runs: ``{extractor, matcher}`` or ``{dense}``, names of confs.

    ``extractor/matcher`` and ``dense/conf`` stand for themselves.

    Raises:
        DiskHlocError: neither a known row nor ``extractor/matcher``.
    """
    known = named_rows()
    if row in known:
        return known[row]
    extractor, _, matcher = row.partition("/")
    if not extractor or not matcher:
        raise DiskHlocError(
            f"no row is called {row!r}; known: {', '.join(known)}; or write extractor/matcher"
        )
    if extractor == "dense":
        return {"dense": matcher}
    return {"extractor": extractor, "matcher": matcher}


def _run(name: str, row: Mapping[str, str], shared: Shared) -> dict[str, Any]:
    """One row from photos to figures."""
    features, matches, sfm_dir = _files(name, row, shared.output)
    features.parent.mkdir(parents=True, exist_ok=True)
    matches.parent.mkdir(parents=True, exist_ok=True)
    seconds = {}
    if name in named_rows() and not _is_ours(row):
        # Ahead of the confs, whose error would list names but not say how to get hloc.
        plugin.import_provider(needed_for=name)
    if "dense" in row:
        used = {"dense": budgeted(find_conf("dense", row["dense"]), shared.max_keypoints)}
        with _timed(matches, used["dense"]) as timed:
            if not timed.done:
                dense.main(
                    used["dense"],
                    shared.pairs_path,
                    shared.image_dir,
                    features,
                    matches,
                    device=shared.device,
                )
        seconds = {"match": timed.seconds}
    else:
        used = {
            "extractor": budgeted(find_conf("extractors", row["extractor"]), shared.max_keypoints),
            "matcher": find_conf("matchers", row["matcher"]),
        }
        with _timed(features, used["extractor"]) as timed:
            if not timed.done:
                extract.main(used["extractor"], shared.image_dir, features, device=shared.device)
        seconds["extract"] = timed.seconds
        with _timed(matches, used) as timed:
            if not timed.done:
                match.main(
                    used["matcher"], shared.pairs_path, features, matches, device=shared.device
                )
        seconds["match"] = timed.seconds
    result: dict[str, Any] = {}
    start = time.perf_counter()
    model = None
    try:
        model = reconstruct.main(
            sfm_dir,
            shared.image_dir,
            shared.pairs_path,
            features,
            matches,
            camera=shared.camera,
            cameras=shared.cameras,
            verbose=shared.verbose,
            **shared.model_options,
        )
    except NoModel as error:
        result["note"] = str(error)
    seconds["reconstruct"] = round(time.perf_counter() - start, 2)
    chosen = read_pairs(shared.pairs_path)
    figures = comparison.of_matches(features, matches, chosen, sfm_dir / "database.db")
    figures |= comparison.of_model(model, len(shared.names))
    if shared.poses:
        figures |= comparison.of_poses(
            model, features, matches, chosen, _camera_objects(shared), shared.poses
        )
    return {"figures": figures, "seconds": seconds, **result, "confs": used}


def _files(name: str, row: Mapping[str, str], output: Path) -> tuple[Path, Path, Path]:
    """Features, matches and the model's folder of a row; rows share an extractor's features."""
    folder = output / "rows" / _filename(name)
    features = folder / "features.h5"
    if "extractor" in row:
        features = output / "features" / f"{_filename(row['extractor'])}.h5"
    return features, folder / "matches.h5", folder / "sfm"


def _is_ours(row: Mapping[str, str]) -> bool:
    if "dense" in row:
        return True
    return row["extractor"] in confs.extractors() and row["matcher"] in confs.matchers()


def _filename(name: str) -> str:
    return name.replace("/", "_").lstrip(".")


def budgeted(conf: Mapping[str, Any], max_keypoints: int | None) -> dict[str, Any]:
    """A conf with another number of keypoints, under the name that its model has for it.

    Raises:
        DiskHlocError: the conf has none.
    """
    if max_keypoints is None:
        return dict(conf)
    known = [key for key in ("max_keypoints", "max_num_keypoints") if key in conf["model"]]
    if not known:
        raise DiskHlocError(
            f"the conf of {conf['model']['name']} has no max_keypoints, so it cannot be given the "
            f"{max_keypoints} of the other rows: give a .yaml conf that has, or no --max-keypoints"
        )
    return {**conf, "model": {**conf["model"], known[0]: max_keypoints}}


def _known(
    poses: Path | None, camera: str | None, names: Sequence[str]
) -> tuple[dict[str, Pose], dict[str, str] | None]:
    """Known poses, and the cameras of a folder of calibration files."""
    if poses is None:
        return {}, None
    if poses.is_dir():
        if camera is not None:
            raise DiskHlocError(f"{poses} has a camera for each image: leave --camera out")
        cameras, truth = read_calibrations(poses, names)
        return truth, cameras
    truth = {name: pose for name, pose in read_poses(poses).items() if name in names}
    if len(truth) < 2:
        raise DiskHlocError(
            f"{poses} has the poses of {len(truth)} of the photos, which are called "
            f"{listing(list(names))}: two are the least"
        )
    if camera is None:
        logger.warning("No stereo accuracy: it needs --camera, or calibration files")
    return truth, None


def _camera_objects(shared: Shared) -> dict[str, pycolmap.Camera] | None:
    texts = shared.cameras
    if texts is None and shared.camera is not None and len(shared.camera.split()) > 1:
        texts = dict.fromkeys(shared.names, shared.camera)
    if texts is None:
        return None
    # Relative poses do not depend on the photos' sizes.
    return {name: colmap.camera_object(text, 1, 1) for name, text in texts.items()}


def _require_readable(image_dir: Path, names: Sequence[str]) -> None:
    """Every row is to have the same photos, so one that cannot be read stops all."""
    unreadable = []
    for name in names:
        try:
            read_image(image_dir / name)
        except ImageReadError as error:
            unreadable.append(f"{name} ({error})")
    if unreadable:
        raise DiskHlocError(
            f"photos of {image_dir} that cannot be read: {listing(unreadable)}; mend or remove them"
        )


def _settings(shared: Shared) -> dict[str, Any]:
    """What the figures of every row depend on, and where they were taken."""
    cameras = shared.camera
    if shared.cameras is not None:
        cameras = "one for each photo, from the calibration files"
    settings = {
        "images": len(shared.names),
        "pairs": len(read_pairs(shared.pairs_path)),
        "pairs_crc32": zlib.crc32(shared.pairs_path.read_bytes()),
        "max_keypoints": shared.max_keypoints,
        "cameras": cameras,
        "cameras_crc32": zlib.crc32(json.dumps(shared.cameras, sort_keys=True).encode()),
        **shared.model_options,
        "verification": colmap.VERIFICATION,
        "poses": len(shared.poses),
        "poses_crc32": zlib.crc32(repr(sorted(shared.poses.items())).encode()),
        "stereo": f"{stereo.estimator()} at {stereo.THRESHOLD} px",
        "device": shared.device,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "versions": {
            "disk_hloc": disk_hloc.__version__,
            "kornia": kornia.__version__,
            "pycolmap": pycolmap.__version__,
            "torch": torch.__version__,
        },
    }
    # As they are read again.
    return json.loads(json.dumps(settings))


def _former(shared: Shared, rows: Sequence[str], overwrite: bool) -> dict[str, Any]:
    """Results to go on from.

    Raises:
        DiskHlocError: they were made with other settings, or the file is broken.
    """
    path = shared.output / "results.json"
    results: dict[str, Any] = {"settings": _settings(shared), "rows": {}}
    if overwrite:
        _remove(shared.output, rows)
    if not path.is_file():
        return results
    try:
        former = json.loads(path.read_text(encoding="utf-8"))
        former_settings, former_rows = dict(former["settings"]), dict(former["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DiskHlocError(f"{path} holds no results ({error}): remove it") from error
    differing = [
        f"{key} ({former_settings.get(key)}, now {value})"
        for key, value in results["settings"].items()
        if former_settings.get(key) != value
    ]
    if differing and overwrite:
        _remove(shared.output, list(former_rows))
        return results
    if differing:
        raise DiskHlocError(
            f"{path} was made with other settings: {', '.join(differing)}; give another folder, or "
            "--overwrite to drop all its rows"
        )
    results["rows"] = {
        name: {"reason": "stopped before it was done"} if overwrite and name in rows else row
        for name, row in former_rows.items()
    }
    return results


def _remove(output: Path, rows: Sequence[str]) -> None:
    """Remove the features and matches of rows; their models are replaced as they are built."""
    for name in rows:
        features, matches, _ = _files(name, plan(name), output)
        for path in (features, matches, dense.ends_path(matches)):
            path.unlink(missing_ok=True)
            _record_of(path).unlink(missing_ok=True)


def _write(output: Path, results: Mapping[str, Any]) -> None:
    """Each file is whole or unchanged."""
    texts = {
        "results.json": json.dumps(results, indent=2) + "\n",
        "results.md": comparison.markdown(results),
    }
    for filename, text in texts.items():
        replace_text(output / filename, text)


class _Timing:
    """The time that a stage took, over all runs that worked on it.

    Attributes:
        done: the stage has ended before, with the same conf.
        seconds: None where a run was killed, and its time is not known.
    """

    def __init__(self, done: bool, seconds: float | None) -> None:
        self.done = done
        self.seconds = seconds


@contextmanager
def _timed(target: Path, conf: Mapping[str, Any]) -> Iterator[_Timing]:
    """Time a stage that makes a file, and remember it beside the file."""
    path = _record_of(target)
    conf = json.loads(json.dumps(conf, default=str))
    former: dict[str, Any] = {"conf": conf, "done": False, "seconds": None}
    if not target.is_file():
        former["seconds"] = 0.0
    elif path.is_file():
        former = json.loads(path.read_text(encoding="utf-8"))
    timing = _Timing(former["done"] and former["conf"] == conf, former["seconds"])
    if timing.done:
        yield timing
        return
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    ended = False
    try:
        yield timing
        ended = True
    finally:
        if timing.seconds is not None:
            timing.seconds = round(timing.seconds + time.perf_counter() - start, 2)
        record = {"conf": conf, "done": ended, "seconds": timing.seconds}
        path.write_text(json.dumps(record) + "\n", encoding="utf-8")


def _record_of(target: Path) -> Path:
    return target.with_suffix(".json")
