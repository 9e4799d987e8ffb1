"""The page of a comparison: its tables, and models and pairs of its rows beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pycolmap

from disk_hloc.geometry import align
from disk_hloc.io import colmap
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.report import pair_picture
from disk_hloc.report.figure import MAX_POINTS, figure
from disk_hloc.report.pair_picture import Rows

from . import rendering
from .photos import to_url

# Points of all models together.
_ALL_POINTS = 2 * MAX_POINTS
_QUALITY = 80


class Table(NamedTuple):
    """A table of figures.

    Attributes:
        title: its heading.
        lines: cells, the heads of the columns first.
    """

    title: str
    lines: Sequence[Sequence[str]]


def write(
    output: Path,
    image_dir: Path,
    rows: Rows,
    pairs: Sequence[Pair],
    tables: Sequence[Table],
    *,
    kind: str,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    seconds: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    command: str = "",
) -> Path:
    """Write the page of a comparison.

    Args:
        output: the folder of the comparison, which gets ``report.html``.
        image_dir: the photos.
        rows: name -> features file, matches file, and the model's folder with its database; only
            those that were run.
        pairs: those that all rows matched.
        tables: the figures.
        kind: what the page calls itself.
        notes: what a reader of the tables must know.
        warnings: what a reader should know first.
        seconds: of each row or stage.
        settings: what the rows share.
        command: the command that made the folder.

    Returns:
        The page.
    """
    found = {name: colmap.read_models(sfm_dir) for name, (_, _, sfm_dir) in rows.items()}
    models = {name: ones[0] for name, ones in found.items() if ones}
    for model in list(models.values())[1:]:
        _align(model, next(iter(models.values())))
    most = min(MAX_POINTS, _ALL_POINTS // max(len(models), 1))
    content = {
        "scenes": {name: json.loads(figure(one, most).to_json()) for name, one in models.items()},
        "pairs": _pairs(image_dir, rows, pairs) if image_dir.is_dir() else [],
    }
    return rendering.write(
        output, "comparison.html", content,
        kind=kind, rows=list(models), tables=tables, notes=notes, warnings=warnings,
        seconds=seconds or {}, command=command,
        confs={"settings": json.dumps(settings, indent=2)} if settings else {},
    )  # fmt: skip


def _align(model: pycolmap.Reconstruction, other: pycolmap.Reconstruction) -> None:
    """Bring a model onto another, by the positions of the photos that both have."""
    centers = [
        {
            image.name: colmap.to_pose(colmap.cam_from_world(image)).center
            for image in colmap.registered_images(one)
        }
        for one in (model, other)
    ]
    shared = sorted(set(centers[0]) & set(centers[1]))
    if len(shared) < 3:
        return
    source, target = (np.array([found[name] for name in shared]) for found in centers)
    scale, rotation, translation = align(source, target)
    if np.isfinite(scale) and scale > 0:
        model.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(rotation), translation))


def _pairs(image_dir: Path, rows: Rows, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return the pictures of the strongest, the median and the weakest pair in each row."""
    verified = pair_picture.read_all_verified(rows)
    ranked = pair_picture.ranked(verified, pairs)
    chosen = {"weakest": 0, "median": len(ranked) // 2, "strongest": len(ranked) - 1}
    shown: dict[Pair, str] = {}
    for title, place in reversed(chosen.items()):
        shown.setdefault(ranked[place], title)
    order = sorted(shown, key=lambda pair: list(chosen).index(shown[pair]) != 1)
    return [
        {
            "title": f"{shown[pair]}: {pair[0]} and {pair[1]}",
            "panels": [
                {"title": title, "url": to_url(panel, _QUALITY)}
                for title, panel in pair_picture.panels(image_dir, rows, verified, pair)
            ],
        }
        for pair in order
    ]
