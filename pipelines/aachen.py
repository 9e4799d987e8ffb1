"""Aachen Day-Night v1: a model of DISK features with the SIFT model's poses, and queries in it.

    python -m disk_hloc.pipelines.aachen --dataset D --outputs O

The steps and file names are those of hloc's pipeline; existing features and matches are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc import parallel
from disk_hloc.errors import UnreadableImages
from disk_hloc.eval import localization
from disk_hloc.io.benchmarks.aachen import read_conf, require_dataset, sift_model
from disk_hloc.io.conf_files import conf_stem
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.output_folder import one_run
from disk_hloc.io.replace import replace_json
from disk_hloc.log import logger
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, localize, match, pairs, triangulate

from .retrieval import find_retrieval, retrieve_pairs


@one_run("outputs", "dataset")
def main(
    dataset: Path,
    outputs: Path,
    *,
    conf: str = "aachen",
    extractor: str | None = None,
    matcher: str | None = None,
    retrieval: str | None = None,
    num_covis: int | None = None,
    num_loc: int | None = None,
    engine: str = "auto",
    masks: Mapping[str, Any] | None = None,
    ground_truth: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
) -> dict[str, Any]:
    """Extract, triangulate in the SIFT model's poses, retrieve, match and localize.

    Args:
        dataset: the data set, in the layout of visuallocalization.net.
        outputs: gets ``features-*.h5``, ``pairs-*.txt``, ``matches-*.h5``, ``sfm_*/``, and
            ``<name>_hloc_<extractor>+<matcher>_<retrieval><num_loc>.txt``, the poses to submit to
            visuallocalization.net, with their log and a summary.
        conf: ``aachen``, ``aachen_v1_1`` (files in configs/), or a .yaml file; the arguments
            that follow override it.
        extractor, matcher: confs, ours or hloc's.
        retrieval: ``disk-vlad``; a global conf of hloc's, such as ``netvlad``; or a pairs file.
        num_covis: pairs of each database image.
        num_loc: retrieved images of each query.
        engine: ``auto``, ``hloc`` or ``native``.
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`;
            :func:`disk_hloc.stages.extract.main` says when they act).
        ground_truth: a file of known poses of the queries to compare with.
        overwrite: extract and match from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` images that cannot be read, or ``stop`` at the first.
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.

    Returns:
        ``results`` (the file of poses), ``queries``, ``localized``, ``points3D``, ``unreadable``
        (image name -> reason), and with known poses ``errors``
        (:func:`disk_hloc.eval.localization.evaluate`).

    Raises:
        DiskHlocError: a part of the data set is missing, or as the stages.
    """
    given = {
        "extractor": extractor, "matcher": matcher, "retrieval": retrieval,
        "num_covis": num_covis, "num_loc": num_loc,
    }  # fmt: skip
    conf_ = read_conf(conf) | {key: value for key, value in given.items() if value is not None}
    require_dataset(dataset, conf_)
    # Unknown confs are reported before hours are spent.
    matcher_conf = find_conf("matchers", conf_["matcher"])
    extractor_conf = find_conf("extractors", conf_["extractor"])
    find_retrieval(conf_["retrieval"])
    truth = read_poses(ground_truth) if ground_truth else None
    outputs.mkdir(parents=True, exist_ok=True)
    images = dataset / conf_["images"]
    title = f"{conf_stem(conf_['extractor'])}+{conf_stem(conf_['matcher'])}"
    features = outputs / f"{extractor_conf['output']}.h5"
    extraction = extract.work(extractor_conf, images, features, masks=masks, on_error=on_error)
    unreadable: dict[str, str] = {}
    try:
        parallel.run(extraction, dask, overwrite=overwrite, device=device)
    except UnreadableImages as error:
        logger.warning("%s", error)
        unreadable = error.reasons
    again = overwrite or extraction.renumbers
    known = sift_model(dataset, conf_, outputs)
    sfm_pairs = outputs / f"pairs-db-covis{conf_['num_covis']}.txt"
    pairs.main("covisibility", known, sfm_pairs, num_matched=conf_["num_covis"])
    stem = f"matches-{conf_stem(conf_['matcher'])}_{features.stem}"
    sfm_matches = outputs / f"{stem}_{sfm_pairs.stem}.h5"
    matching = match.work(matcher_conf, sfm_pairs, features, sfm_matches)
    parallel.run(matching, dask, overwrite=again, device=device)
    reference = outputs / f"sfm_{title}"
    model = triangulate.main(
        reference, known, images, sfm_pairs, features, sfm_matches, engine=engine
    )

    retrieved, loc_pairs = retrieve_pairs(
        conf_, images, features, reference, outputs,
        overwrite=overwrite, new_features=again, device=device,
    )  # fmt: skip
    loc_matches = outputs / f"{stem}_{loc_pairs.stem}.h5"
    matching = match.work(matcher_conf, loc_pairs, features, loc_matches)
    parallel.run(matching, dask, overwrite=again, device=device)
    results = outputs / f"{conf_['name']}_hloc_{title}_{retrieved}{conf_['num_loc']}.txt"
    poses = localize.main(
        reference, dataset / conf_["queries"], loc_pairs, features, loc_matches, results,
        engine=engine,
    )  # fmt: skip
    log = json.loads(results.with_name(f"{results.name}_logs.json").read_text())
    summary: dict[str, Any] = {
        "results": str(results),
        "points3D": model.num_points3D(),
        "queries": len(log["queries"]),
        "localized": len(poses),
        "unreadable": unreadable,
    }
    if truth:
        summary["errors"] = localization.evaluate(poses, truth)
    replace_json(results.with_suffix(".json"), summary)
    return summary


if __name__ == "__main__":
    import runpy
    import sys

    # By name: pipelines do not import the command line, which imports them.
    sys.argv[1:1] = ["pipeline", "aachen"]
    runpy.run_module("disk_hloc", run_name="__main__")
