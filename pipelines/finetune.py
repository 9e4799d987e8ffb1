"""Train DISK on one's own photos, by the model that it makes of them; before and after compared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from disk_hloc.dataset import from_colmap
from disk_hloc.eval import comparison_of_weights as comparison
from disk_hloc.eval.comparison_of_weights import ROWS
from disk_hloc.eval.reference import read_reference
from disk_hloc.eval.rows import RowFiles
from disk_hloc.io import run_settings
from disk_hloc.io.colmap import poses_of, read_model
from disk_hloc.io.images import list_images
from disk_hloc.io.inputs import digest_of_photos
from disk_hloc.io.output_folder import one_run
from disk_hloc.log import logger
from disk_hloc.plugin import find_conf
from disk_hloc.report import tables
from disk_hloc.report.pair_picture import same_pair
from disk_hloc.train import fine_tuning

from . import sfm


@one_run("output", "image_dir")
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
    dask: str | None = None,
) -> dict[str, Any]:
    """Reconstruct, train on the model, reconstruct with the new weights, compare.

    Some photos are held out: no training tuple has one of them, and pairs of them show whether the
    training helped. What is done is kept, so a run that was stopped resumes.

    Args:
        image_dir: the photos, at any depth.
        output: gets ``before/`` and ``after/`` (:func:`disk_hloc.pipelines.sfm.main`),
            ``dataset/``, ``training/``, ``weights.pth``, ``extractor.yaml`` (a conf with these
            weights), ``results.json``, ``results.md`` and ``matches.png``.
        extractor: a conf of ours whose model is DISK; training starts from its weights.
        matcher: a conf of configs/matchers.yaml, of hloc's, or a yaml file.
        poses: known poses to compare with (:func:`disk_hloc.eval.reference.read_reference`).
            Without them, both are compared with the model ``before``, which favours its weights.
        camera: the camera of all photos, ``"PINHOLE fx,fy,cx,cy"``; it stays fixed.
        dense: COLMAP's dense workspace of these photos, with stereo depth. The reward is then by
            depth, otherwise by epipolar geometry.
        held_out: share of the photos to hold out; at least two are.
        within, tuple_size: see :func:`disk_hloc.dataset.covisibility.choose_tuples`.
        steps: training steps, each on one tuple.
        image_size: (width, height) of the photos in training, in multiples of 16.
        learning_rate: Adam's.
        seed: of all random numbers.
        overwrite: start over.
        device: ``auto``, ``cpu``, ``cuda``, ...
        engine: of the reconstructions.
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.

    Returns:
        What ``results.json`` holds: ``settings``, with the ``seconds`` of the training;
        ``held_out``, the photos; and ``groups`` and ``models``
        (:func:`disk_hloc.eval.comparison_of_weights.compare`).

    Raises:
        DiskHlocError: too few photos, an extractor that cannot be trained, a folder with a run of
            other settings, or as the stages.
    """
    conf = find_conf("extractors", extractor)
    training = fine_tuning.options(
        conf, with_depth=dense is not None, image_size=image_size, steps=steps,
        learning_rate=learning_rate,
    )  # fmt: skip
    names = list_images(image_dir)
    settings = {
        "images": names,
        "photos": digest_of_photos(output, image_dir, names),
        "extractor": conf,
        "matcher": matcher,
        "camera": camera,
        "dense": str(dense) if dense else None,
        "held_out": held_out,
        "covisible": list(within), "tuple_size": tuple_size, "seed": seed, "training": training,
    }  # fmt: skip
    made = (*ROWS, "dataset", "training", "weights.pth", "extractor.yaml")
    run_settings.claim(output, settings, made=made, overwrite=overwrite)
    shared: dict[str, Any] = {
        # The figures are of all pairs.
        "matcher": matcher, "pairs_from": "exhaustive", "camera": camera,
        "fix_intrinsics": camera is not None, "device": device, "engine": engine, "dask": dask,
    }  # fmt: skip
    _reconstruct(image_dir, output / "before", extractor, shared)
    model = read_model(output / "before" / "sfm")
    names = sorted(poses_of(model))
    reference = read_reference(poses, camera, names)
    unseen = comparison.held_out_images(names, held_out, tuple_size)
    dataset = output / "dataset" / "dataset.json"
    if not dataset.exists():
        from_colmap.main(
            output / "before" / "sfm" if dense is None else dense / "sparse",
            image_dir if dense is None else dense / "images",
            dataset.parent,
            only=set(names) - set(unseen), with_depth=dense is not None, within=within,
            size=tuple_size, seed=seed,
        )  # fmt: skip
    weights, seconds = fine_tuning.main(dataset, output, training, seed=seed, device=device)
    tuned = fine_tuning.write_conf(output / "extractor.yaml", conf, weights)
    _reconstruct(image_dir, output / "after", str(tuned), shared)
    judged_by = comparison.judged_by(reference)
    results: dict[str, Any] = {
        "settings": {**settings, "judged_by": judged_by, "seconds": seconds},
        "held_out": unseen,
        **comparison.compare(output, unseen, reference, model),
    }
    lines, note = comparison.table(results), comparison.note(judged_by)
    tables.write(output, "Fine-tuning", results, lines, note)
    files = {row: RowFiles.in_folder(output / row) for row in ROWS}
    same_pair(image_dir, files, list(combinations(unseen, 2)), output / "matches.png")
    return results


def _reconstruct(image_dir: Path, folder: Path, extractor: str, options: Mapping[str, Any]) -> None:
    """Reconstruct once: another model may have other photos, and others would be held out."""
    if (folder / "summary.json").exists():
        logger.info("The model of %s exists already", folder)
        return
    logger.info("Reconstructing in %s", folder)
    sfm.main(image_dir, folder, extractor=extractor, **options)
