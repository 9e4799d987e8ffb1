"""From a folder of photos to a COLMAP model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from disk_hloc import models
from disk_hloc.errors import UnreadableImages
from disk_hloc.eval.model import summarize
from disk_hloc.io.colmap import read_images_and_pairs
from disk_hloc.io.hloc.pairs import require_plain_names
from disk_hloc.io.images import list_images
from disk_hloc.parallel import shards
from disk_hloc.plugin import find_conf
from disk_hloc.stages import mask, pairs, reconstruct


def main(
    image_dir: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str = "disk",
    pairs_from: str = "exhaustive",
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
    engine: str = "auto",
    camera_mode: str = "auto",
    camera: str | None = None,
    fix_intrinsics: bool = False,
    mapper: str = "incremental",
    robust: bool = True,
    verbose: bool = False,
) -> dict[str, Any]:
    """Extract, choose pairs, match, reconstruct.

    Features and matches that are there already are kept, so a run that was stopped resumes.

    Args:
        image_dir: the photos, at any depth.
        output: gets ``features.h5``, ``pairs.txt``, ``matches.h5``, ``sfm/``, ``summary.json``.
        extractor: a conf of configs/extractors.yaml, of hloc's, or a yaml file.
        matcher: likewise of configs/matchers.yaml.
        pairs_from: ``exhaustive``, or a pairs file.
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`). They act as ours
            extract; features of hloc's own extractors are masked afterwards.
        overwrite: start features and matches anew.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` images that cannot be read, or ``stop`` at the first.
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.
        engine, camera_mode, camera, fix_intrinsics, mapper, robust, verbose: see
            :func:`disk_hloc.stages.reconstruct.main`.

    Returns:
        What ``summary.json`` holds: the figures of :func:`disk_hloc.eval.model.summarize`, the
        ``engine``, ``seconds``, a stage each, and ``unreadable``, the images that could not be
        read (the model is that of the others).

    Raises:
        DiskHlocError: whatever a stage says.
    """
    extractor_conf = find_conf("extractors", extractor)
    matcher_conf = find_conf("matchers", matcher)
    names = list_images(image_dir)
    require_plain_names(names)
    engine = reconstruct.check_options(engine, camera_mode, camera, mapper)
    features = output / "features.h5"
    pairs_path = output / "pairs.txt"
    matches = output / "matches.h5"
    mask_afterwards = masks is not None and not models.has(
        "extractors", extractor_conf["model"]["name"]
    )
    seconds: dict[str, float] = {}
    unreadable: dict[str, str] = {}

    with _timed(seconds, "extract"):
        try:
            shards.extract(
                extractor_conf,
                image_dir,
                output / "features_unmasked.h5" if mask_afterwards else features,
                masks=None if mask_afterwards else masks,
                overwrite=overwrite,
                device=device,
                on_error=on_error,
                dask=dask,
            )
        except UnreadableImages as error:
            unreadable = error.reasons
    if masks is not None and mask_afterwards:
        with _timed(seconds, "mask"):
            mask.main(masks, output / "features_unmasked.h5", features, overwrite=True)
    with _timed(seconds, "pairs"):
        if pairs_from == "exhaustive":
            pairs.exhaustive([name for name in names if name not in unreadable], pairs_path)
        else:
            pairs.given(Path(pairs_from), pairs_path, without=unreadable)
    with _timed(seconds, "match"):
        # Features that were masked anew have other indices.
        shards.match(
            matcher_conf,
            pairs_path,
            features,
            matches,
            overwrite=overwrite or mask_afterwards,
            device=device,
            dask=dask,
        )
    with _timed(seconds, "reconstruct"):
        model = reconstruct.main(
            output / "sfm",
            image_dir,
            pairs_path,
            features,
            matches,
            engine=engine,
            camera_mode=camera_mode,
            camera=camera,
            fix_intrinsics=fix_intrinsics,
            mapper=mapper,
            robust=robust,
            verbose=verbose,
        )
    summary = {
        **summarize(model, len(names)),
        "engine": engine,
        "seconds": seconds,
        "unreadable": unreadable,
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def from_database(
    database_path: Path,
    image_dir: Path,
    output: Path,
    *,
    fix_intrinsics: bool = False,
    mapper: str = "incremental",
    robust: bool = True,
    verbose: bool = False,
) -> dict[str, Any]:
    """Verify and reconstruct the images of a COLMAP database.

    Args:
        database_path: with keypoints and matches; it is not changed.
        image_dir: the photos.
        output: gets ``sfm/`` and ``summary.json``.
        fix_intrinsics, mapper, robust, verbose: see
            :func:`disk_hloc.stages.reconstruct.from_database`.

    Returns:
        What ``summary.json`` holds, as :func:`main`.

    Raises:
        DiskHlocError: whatever the stage says.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "reconstruct"):
        model = reconstruct.from_database(
            output / "sfm",
            image_dir,
            database_path,
            fix_intrinsics=fix_intrinsics,
            mapper=mapper,
            robust=robust,
            verbose=verbose,
        )
    names, _ = read_images_and_pairs(database_path)
    summary = {
        **summarize(model, len(names)),
        "engine": "native",
        "seconds": seconds,
        "unreadable": {},
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 2)
