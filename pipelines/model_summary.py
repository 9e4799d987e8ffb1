"""What is known of a model in a pipeline's output folder: ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from disk_hloc.eval.model import summarize
from disk_hloc.io.colmap import DATABASE, read_models, seeing_points
from disk_hloc.io.model_folders import GEOREFERENCED, SFM
from disk_hloc.io.replace import replace_json
from disk_hloc.stages import georeference as georeferencing
from disk_hloc.stages.missing import reasons
from disk_hloc.stages.timing import timed


def write(
    output: Path,
    names: Sequence[str],
    engine: str,
    seconds: dict[str, float],
    photos: Path | None,
    **noted: dict[str, Any],
) -> dict[str, Any]:
    """Write the summary; then georeference the model, if ``photos`` are given, and write that.

    Args:
        output: has ``sfm/``.
        names: all photos.
        engine: what built the model.
        seconds: stage -> its duration.
        photos: the folder of the photos, to georeference the model.
        noted: what else the summary says, among it ``unreadable``.

    Returns:
        What ``summary.json`` holds; see :func:`disk_hloc.pipelines.sfm.main`.
    """
    models = read_models(output / SFM)
    figures = {**summarize(models[0], len(names)), "engine": engine, "seconds": seconds}
    sizes = [len(seeing_points(model)) for model in models]
    missing = reasons(names, models, output / SFM / DATABASE, noted["unreadable"])
    summary: dict[str, Any] = {**figures, "models": sizes, "missing": missing, **noted}
    replace_json(output / "summary.json", summary)
    if photos is not None:
        with timed(seconds, "georeference"):
            report = georeferencing.main(output / SFM, photos, output / GEOREFERENCED)
        summary["georeference"] = report
        replace_json(output / "summary.json", summary)
    return summary
