"""One row of a comparison: photos to features, matches, a model and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc import parallel
from disk_hloc.errors import NoModel
from disk_hloc.eval import comparison
from disk_hloc.eval.reference import Reference
from disk_hloc.eval.rows import Row, made_with
from disk_hloc.io.colmap import DATABASE
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.plugin import split_names
from disk_hloc.stages import dense, extract, match, mix, reconstruct
from disk_hloc.stages.timing import Record, record_path, recorded, timed, total


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


def main(row: Row, output: Path, shared: Shared) -> dict[str, Any]:
    """Run a row from photos to figures.

    Args:
        row: the row.
        output: the folder of the comparison, with the row's files to make or to resume.
        shared: what all rows share.

    Returns:
        ``figures`` (:mod:`disk_hloc.eval.comparison`), ``seconds`` of each stage (None if a run of
        it was killed), ``confs``, and a ``note`` if no model could be built.

    Raises:
        DiskHlocError: as the stages, or :meth:`disk_hloc.eval.rows.Row.confs`.
    """
    confs = row.confs(shared.max_keypoints)
    features, matches, sfm_dir = row.files(output)
    if "parts" in confs:
        seconds = _match_parts(row, confs["parts"], output, shared)
    else:
        seconds = _match(confs, features, matches, shared)
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
        "made_with": made_with(confs),
    }  # fmt: skip


def _match(
    confs: dict[str, Any], features: Path, matches: Path, shared: Shared
) -> dict[str, float | None]:
    """Make features and matches of one extractor, or densely; return the stages' seconds."""
    for path in (features, matches):
        path.parent.mkdir(parents=True, exist_ok=True)
    image_dir, pairs_path, device = shared.image_dir, shared.pairs_path, shared.device
    if "dense" in confs:
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
    """Make a row's features file, for a stage that needs it before the row is run.

    Args:
        row: a row with an extractor.
        output: the folder of the comparison.
        shared: what all rows share.
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


def _match_parts(
    row: Row, confs: Mapping[str, dict[str, Any]], output: Path, shared: Shared
) -> dict[str, float | None]:
    """Make features and matches of each extractor and join them; return the stages' seconds."""
    parts = row.part_files(output, confs)
    times = [_match(confs[name], *files, shared) for name, files in parts.items()]
    features, matches, _ = row.files(output)
    joining: dict[str, float | None] = {"extract": 0.0}
    with timed(joining, "match"):
        mix.join_features(list(parts.values()), features)
        mix.join_matches(list(parts.values()), shared.pairs_path, features, matches)
    return {stage: total(one[stage] for one in (*times, joining)) for stage in joining}


def remove(row: Row, output: Path) -> None:
    """Remove a row's features and matches; its model is replaced as it is built."""
    features, matches, _ = row.files(output)
    paths = {features, matches}
    if "extractor" in row.conf_names:
        names = split_names(row.conf_names["extractor"])
        paths.update(*row.part_files(output, names).values())
    for path in paths:
        path.unlink(missing_ok=True)
        record_path(path).unlink(missing_ok=True)
    dense.ends_path(matches).unlink(missing_ok=True)
