"""From a folder of photos to a COLMAP model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc import parallel
from disk_hloc.errors import NoModel
from disk_hloc.io.colmap import (
    read_images_and_pairs,
    remove_model,
)  # fmt: skip
from disk_hloc.io.model_folders import GEOREFERENCED
from disk_hloc.io.output_folder import one_run
from disk_hloc.stages import reconstruct
from disk_hloc.stages.extract import chosen_images
from disk_hloc.stages.timing import timed

from . import matching, model_summary
from . import rescue as rescuing


@one_run("output", "image_dir")
def main(
    image_dir: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str | None = None,
    pairs_from: str = "auto",
    turn: str = "auto",
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
    engine: str = "auto",
    camera_mode: str = "auto",
    camera: str | None = None,
    fix_intrinsics: bool = False,
    mapper: str = "auto",
    robust: bool = True,
    rescue: bool = True,
    georeference: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Extract, choose pairs, match, reconstruct.

    Existing features and matches are kept, so a run that was stopped resumes.

    Args:
        image_dir: the photos, at any depth.
        output: gets ``features.h5``, ``pairs.txt``, ``matches.h5``, ``sfm/``, ``summary.json``.
        extractor, matcher: confs by their names, several extractors joined by ``+``, and a matcher
            for each; None takes each extractor's own (:func:`disk_hloc.plugin.find_parts`).
        pairs_from: methods of configs/pairs.yaml, yaml files of that form and pairs files, joined
            with ``+`` (:func:`disk_hloc.stages.pairs.choose`).
        turn: how photos are turned before extraction (:func:`disk_hloc.stages.turn.main`).
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`;
            :func:`disk_hloc.stages.extract.main` says when they act).
        overwrite: extract and match from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` images that cannot be read, or ``stop`` at the first.
        dask: who extracts, matches and maps clusters, if others
            (:func:`disk_hloc.parallel.workers.connected`).
        engine, camera_mode, camera, fix_intrinsics, mapper, robust, verbose: see
            :func:`disk_hloc.stages.reconstruct.main`.
        rescue: try photos that the model lacks again with SIFT (:mod:`disk_hloc.pipelines.rescue`).
        georeference: write ``georeferenced/``, too (:mod:`disk_hloc.stages.georeference`).

    Returns:
        What ``summary.json`` holds: the figures of :func:`disk_hloc.eval.model.summarize`, the
        ``engine``, ``seconds`` of each stage, ``turned`` and ``unreadable`` photos
        (:class:`disk_hloc.pipelines.matching.Matched`), and ``georeference``, if it is asked for.

    Raises:
        DiskHlocError: as the stages. If GPS does not tell how the model lies, the model in
            ``sfm/`` and ``summary.json`` are complete.
    """
    names = chosen_images(image_dir, masks=masks)  # a wrong folder is reported first
    engine = reconstruct.check_options(engine, camera_mode, camera, mapper, image_dir, names)
    matched = matching.main(
        image_dir, output, extractor=extractor, matcher=matcher, pairs_from=pairs_from, turn=turn,
        masks=masks, overwrite=overwrite, device=device, on_error=on_error, dask=dask,
    )  # fmt: skip
    remove_model(output / GEOREFERENCED)  # it is not of this model
    build: dict[str, Any] = {"fix_intrinsics": fix_intrinsics, "robust": robust, "verbose": verbose}
    failure = None
    try:
        with timed(matched.seconds, "reconstruct"):
            reconstruct.main(
                output / "sfm", image_dir, matched.pairs, matched.features, matched.matches,
                engine=engine, camera_mode=camera_mode, camera=camera, mapper=mapper,
                spread=parallel.clusters.spread(dask), **build,
            )  # fmt: skip
    except NoModel as error:
        failure = error
    rescue = rescue and rescuing.EXTRACTOR not in extractor.split("+")
    gained = rescue and rescuing.main(
        image_dir, output, matched, failure,
        masks=masks, overwrite=overwrite, device=device, dask=dask, **build,
    )  # fmt: skip
    if failure is not None and not gained:
        raise failure
    photos = image_dir if georeference else None
    return model_summary.write(
        output, matched.images, engine, matched.seconds, photos,
        turned=matched.turned, unreadable=matched.unreadable,
    )  # fmt: skip


@one_run("output", "image_dir")
def from_database(
    database_path: Path,
    image_dir: Path,
    output: Path,
    *,
    fix_intrinsics: bool = False,
    mapper: str = "auto",
    robust: bool = True,
    georeference: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Verify and reconstruct the images of a COLMAP database.

    Args:
        database_path: a COLMAP database with keypoints and matches; it is not changed.
        image_dir, output, georeference: see :func:`main`; there are no features and matches.
        fix_intrinsics, mapper, robust, verbose: see
            :func:`disk_hloc.stages.reconstruct.from_database`.

    Returns, Raises: see :func:`main`.
    """
    seconds: dict[str, float] = {}
    remove_model(output / GEOREFERENCED)
    with timed(seconds, "reconstruct"):
        reconstruct.from_database(
            output / "sfm", image_dir, database_path,
            fix_intrinsics=fix_intrinsics, mapper=mapper, robust=robust, verbose=verbose,
        )  # fmt: skip
    names, _ = read_images_and_pairs(database_path)
    photos = image_dir if georeference else None
    return model_summary.write(output, names, "native", seconds, photos, turned={}, unreadable={})
