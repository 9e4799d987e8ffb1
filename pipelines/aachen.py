"""Aachen Day-Night v1: a model of DISK features in the poses of the SIFT model, queries in it.

    python -m disk_hloc.pipelines.aachen --dataset D --outputs O

The steps and names are those of hloc's pipeline; what there is already is kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError, UnreadableImages
from disk_hloc.eval import localization
from disk_hloc.io.benchmarks.nvm import read_nvm
from disk_hloc.io.colmap import read_model
from disk_hloc.io.conf_files import read_yaml
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.names import require_relative
from disk_hloc.log import logger
from disk_hloc.parallel import shards
from disk_hloc.plugin import find_conf
from disk_hloc.stages import describe, localize, mask, pairs, retrieve, triangulate

# Retrieval that needs no conf of an extractor.
VLAD = "disk-vlad"


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
        dataset: the data set, as it is handed out.
        outputs: gets ``features-*.h5``, ``pairs-*.txt``, ``matches-*.h5``, ``sfm_*/``, and
            ``<name>_hloc_<extractor>+<matcher>_<retrieval><num_loc>.txt``, the file of poses that
            visuallocalization.net takes, with its log and a summary.
        conf: configs/aachen.yaml or configs/aachen_v1_1.yaml by name, or a .yaml file; what
            follows overrides what it says.
        extractor, matcher: confs, ours or hloc's.
        retrieval: ``disk-vlad``; one of hloc's global confs, as ``netvlad``; or a pairs file.
        num_covis: pairs an image for the model.
        num_loc: retrieved images a query.
        engine: ``auto``, ``hloc`` or ``native``.
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`).
        ground_truth: known poses of the queries, to compare with.
        overwrite: start features and matches anew.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` images that cannot be read, or ``stop`` at the first.
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.

    Returns:
        ``results`` (the file of poses), ``queries``, ``localized``, ``points3D``, ``unreadable``
        (image name -> reason), and with known poses ``errors``
        (:func:`disk_hloc.eval.localization.evaluate`).

    Raises:
        DiskHlocError: a part of the data set is missing, or whatever a stage says.
    """
    given = {
        "extractor": extractor, "matcher": matcher, "retrieval": retrieval,
        "num_covis": num_covis, "num_loc": num_loc,
    }  # fmt: skip
    conf_ = read_conf(conf) | {key: value for key, value in given.items() if value is not None}
    require_dataset(dataset, conf_)
    # What does not exist is said before hours are spent.
    matcher_conf = find_conf("matchers", conf_["matcher"])
    find_conf("extractors", conf_["extractor"])
    _retrieval_conf(conf_["retrieval"])
    truth = read_poses(ground_truth) if ground_truth else None
    outputs.mkdir(parents=True, exist_ok=True)
    images = dataset / conf_["images"]
    title = f"{_short(conf_['extractor'])}+{_short(conf_['matcher'])}"
    options: dict[str, Any] = {"overwrite": overwrite, "device": device, "dask": dask}

    features, unreadable = _extract(
        conf_["extractor"], images, outputs, masks, {**options, "on_error": on_error}
    )
    sift_model = dataset / conf_["model"] if "model" in conf_ else outputs / "sfm_sift"
    if "nvm" in conf_:
        sift_model.mkdir(exist_ok=True)
        read_nvm(dataset / conf_["nvm"], dataset / conf_["intrinsics"]).write(sift_model)
    sfm_pairs = outputs / f"pairs-db-covis{conf_['num_covis']}.txt"
    pairs.main("covisibility", sift_model, sfm_pairs, num_matched=conf_["num_covis"])
    stem = f"matches-{_short(conf_['matcher'])}_{features.stem}"
    sfm_matches = outputs / f"{stem}_{sfm_pairs.stem}.h5"
    shards.match(matcher_conf, sfm_pairs, features, sfm_matches, **options)
    reference = outputs / f"sfm_{title}"
    model = triangulate.main(
        reference, sift_model, images, sfm_pairs, features, sfm_matches, engine=engine
    )

    named, loc_pairs = _retrieve(conf_, images, features, reference, outputs, options)
    loc_matches = outputs / f"{stem}_{loc_pairs.stem}.h5"
    shards.match(matcher_conf, loc_pairs, features, loc_matches, **options)
    results = outputs / f"{conf_['name']}_hloc_{title}_{named}{conf_['num_loc']}.txt"
    poses = localize.main(
        reference,
        dataset / conf_["queries"],
        loc_pairs,
        features,
        loc_matches,
        results,
        engine=engine,
    )
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
    results.with_suffix(".json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def read_conf(name: str) -> dict[str, Any]:
    """A pipeline's conf by the name of a file in configs/, or a .yaml file.

    Raises:
        DiskHlocError: there is none, or it lacks a key.
    """
    if name.endswith((".yaml", ".yml")):
        conf = read_yaml(Path(name))
    else:
        with resources.as_file(resources.files("disk_hloc.configs") / f"{name}.yaml") as path:
            conf = read_yaml(path)
    needed = ["name", "images", "queries", "extractor", "matcher", "retrieval", "query_prefix"]
    missing = [key for key in needed if not isinstance(conf, dict) or key not in conf]
    if missing or not ("model" in conf or {"nvm", "intrinsics"} <= set(conf)):
        raise DiskHlocError(
            f"the conf {name} lacks {', '.join(missing) or 'model, or nvm and intrinsics'}"
        )
    for key in ("name", "images", "model", "nvm", "intrinsics", "queries"):
        if key in conf:
            if not isinstance(conf[key], str):
                raise DiskHlocError(f"{key} of the conf {name} is no text")
            require_relative(conf[key], f"{key} of the conf {name}")
    return {"num_covis": 20, "num_loc": 50} | conf


def require_dataset(dataset: Path, conf: Mapping[str, Any]) -> None:
    """Check that a data set has what a conf names, before hours are spent.

    Raises:
        DiskHlocError: it lacks something.
    """
    keys = [key for key in ("images", "model", "nvm", "intrinsics") if key in conf]
    missing = [conf[key] for key in keys if not (dataset / conf[key]).exists()]
    if not list(dataset.glob(conf["queries"])):
        missing.append(conf["queries"])
    if missing:
        raise DiskHlocError(
            f"the data set {dataset} lacks {', '.join(missing)}: see visuallocalization.net for "
            "the data and its layout"
        )


def _extract(
    name: str,
    images: Path,
    outputs: Path,
    masks: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> tuple[Path, dict[str, str]]:
    """The features, and the images that are not among them: name -> reason."""
    conf = find_conf("extractors", name)
    features = outputs / f"{conf['output']}.h5"
    afterwards = masks is not None and conf["model"]["name"] != "disk"
    extracted = outputs / f"{conf['output']}_unmasked.h5" if afterwards else features
    unreadable: dict[str, str] = {}
    try:
        shards.extract(conf, images, extracted, masks=None if afterwards else masks, **options)
    except UnreadableImages as error:
        logger.warning("%s", error)
        unreadable = error.reasons
    if masks is not None and afterwards:
        mask.main(masks, extracted, features, overwrite=True)
    return features, unreadable


def _retrieve(
    conf: Mapping[str, Any],
    images: Path,
    features: Path,
    reference: Path,
    outputs: Path,
    options: dict[str, Any],
) -> tuple[str, Path]:
    """The retrieval's name, and the pairs of queries and retrieved images."""
    retrieval, count = conf["retrieval"], conf["num_loc"]
    source = Path(retrieval)
    if source.is_file():
        copied = outputs / f"pairs-query-{source.stem}.txt"
        if source.resolve() != copied.resolve():
            shutil.copyfile(source, copied)
        return source.stem, copied
    found = _retrieval_conf(retrieval)
    if retrieval == VLAD:
        descriptors = outputs / f"{found['output']}_{features.stem}.h5"
        describe.main(found, features, descriptors, overwrite=options["overwrite"])
    else:
        descriptors = outputs / f"{found['output']}.h5"
        shards.extract(found, images, descriptors, **options)
    listed = outputs / f"pairs-query-{_short(retrieval)}{count}.txt"
    database = [image.name for image in read_model(reference).images.values()]
    retrieve.main(
        descriptors,
        listed,
        count,
        query_prefix=conf["query_prefix"],
        db_list=database,
    )
    return _short(retrieval), listed


def _retrieval_conf(retrieval: str) -> dict[str, Any]:
    """The conf of a global descriptor; none where pairs are given."""
    if Path(retrieval).is_file():
        return {}
    if retrieval.endswith(".txt"):
        raise DiskHlocError(f"there is no pairs file {retrieval}")
    return find_conf("global" if retrieval == VLAD else "extractors", retrieval)


def _short(conf: str) -> str:
    """A conf's name in the name of a file: that of a .yaml file is its stem."""
    return Path(conf).stem if conf.endswith((".yaml", ".yml")) else conf


if __name__ == "__main__":
    import runpy
    import sys

    # By name: pipelines do not import the command line, which imports them.
    sys.argv[1:1] = ["pipeline", "aachen"]
    runpy.run_module("disk_hloc", run_name="__main__")
