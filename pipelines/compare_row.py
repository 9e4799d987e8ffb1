"""One row of a comparison: photos to features, matches, a model and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc import models, parallel
from disk_hloc.errors import DiskHlocError, NoModel
from disk_hloc.eval import comparison
from disk_hloc.eval.reference import Reference
from disk_hloc.eval.rows import Row, RowFiles
from disk_hloc.io.colmap import DATABASE
from disk_hloc.io.digests import digest_of_data
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.stages import dense, extract, match, reconstruct
from disk_hloc.stages.timing import Record, record_path, recorded, timed


@dataclass(frozen=True)
class Shared:
    """What all rows share: the options of a comparison, read and checked."""

    image_dir: Path
    pairs_path: Path
    reference: Reference
    max_keypoints: int | None
    model_options: dict[str, Any]
    device: str
    dask: str | None


def main(row: Row, files: RowFiles, shared: Shared) -> dict[str, Any]:
    """Run a row from photos to figures.

    Args:
        row: the row.
        files: the files to make, or to resume.
        shared: what all rows share.

    Returns:
        ``figures`` (:mod:`disk_hloc.eval.comparison`), ``seconds`` of each stage (None if a run of
        it was killed), ``confs``, and a ``note`` if no model could be built.

    Raises:
        DiskHlocError: as the stages, or :meth:`disk_hloc.eval.rows.Row.confs`.
    """
    confs = row.confs(shared.max_keypoints)
    features, matches, sfm_dir = files
    seconds: dict[str, float | None] = _match(row, confs, files, shared)
    reference = shared.reference
    result: dict[str, Any] = {}
    model = None
    database = sfm_dir / DATABASE
    with timed(seconds, "reconstruct"):
        try:
            model = reconstruct.main(
                sfm_dir, shared.image_dir, shared.pairs_path, features, matches,
                camera=reference.camera, cameras=reference.cameras, **shared.model_options,
            )  # fmt: skip
        except NoModel as error:
            result["note"] = str(error)
            database = error.database_path or database
    chosen = read_pairs(shared.pairs_path)
    figures = comparison.of_matches(features, matches, chosen, database)
    figures |= comparison.of_model(model, len(reference.names))
    if reference.poses:
        figures |= comparison.of_poses(
            model, features, matches, chosen, reference.known_cameras(), reference.poses
        )
    return {
        "figures": figures, "seconds": seconds, **result, "confs": confs,
        "made_with": _made_with(confs),
    }  # fmt: skip


def is_current(row: Row, former: Mapping[str, Any], max_keypoints: int | None) -> bool:
    """Return whether former results of a row were made with its confs and weights as they are."""
    try:
        made_with = _made_with(row.confs(max_keypoints))
    except DiskHlocError:
        return True  # it cannot be run again
    return bool(former.get("made_with", made_with) == made_with)


def _made_with(confs: Mapping[str, Any]) -> str:
    """Return the digest of a row's confs and weights."""
    kinds = {"extractor": "extractors", "matcher": "matchers", "dense": "dense"}
    identities = {}
    for key, conf in confs.items():
        kind, name = kinds[key], conf["model"]["name"]
        model = conf["model"]
        if models.has(kind, name):
            model = models.load(kind, name).identity(model)  # type: ignore[call-overload]
        identities[key] = {**conf, "model": model}
    return digest_of_data(identities)


def _match(
    row: Row, confs: dict[str, Any], files: RowFiles, shared: Shared
) -> dict[str, float | None]:
    """Make a row's features and matches; return the seconds of its stages."""
    features, matches, _ = files
    for path in (features, matches):
        path.parent.mkdir(parents=True, exist_ok=True)
    image_dir, pairs_path, device = shared.image_dir, shared.pairs_path, shared.device
    if row.is_dense:
        conf = confs["dense"]
        with recorded(matches, conf) as record:
            dense.main(conf, pairs_path, image_dir, features, matches, device=device)
        return {"match": record.seconds}
    extraction = _extract(confs["extractor"], features, shared)
    with recorded(matches, confs) as matching:
        work = match.work(confs["matcher"], pairs_path, features, matches)
        parallel.run(work, shared.dask, device=device)
    return {"extract": extraction.seconds, "match": matching.seconds}


def extract_features(row: Row, output: Path, shared: Shared) -> Path:
    """Make a row's features, for a stage that needs them before the row is run.

    Args:
        row: a row with an extractor.
        output: the folder of the comparison.
        shared: what all rows share.

    Returns:
        The features file.
    """
    features = row.files(output).features
    features.parent.mkdir(parents=True, exist_ok=True)
    _extract(row.confs(shared.max_keypoints)["extractor"], features, shared)
    return features


def _extract(conf: Mapping[str, Any], features: Path, shared: Shared) -> Record:
    # What is done already is only checked; a record that is done keeps its time.
    with recorded(features, conf) as record:
        work = extract.work(conf, shared.image_dir, features)
        parallel.run(work, shared.dask, device=shared.device)
    return record


def remove(files: RowFiles) -> None:
    """Remove a row's features and matches; its model is replaced as it is built."""
    for path in (files.features, files.matches):
        path.unlink(missing_ok=True)
        record_path(path).unlink(missing_ok=True)
    dense.ends_path(files.matches).unlink(missing_ok=True)
