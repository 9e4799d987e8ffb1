"""The page of a result, and what is needed to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.eval import comparison, comparison_of_weights
from disk_hloc.eval.rows import RowFiles, find_row
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.map_folder import is_map, read_map
from disk_hloc.io.model_folders import SFM
from disk_hloc.io.replace import replace_json
from disk_hloc.report.page import comparison as comparison_page
from disk_hloc.report.page import model as model_page
from disk_hloc.report.page.comparison import Table

# Beside the page: where the photos are, and the command that made the folder.
_MADE_OF = ".report.json"


def main(
    output: Path,
    image_dir: Path | None = None,
    *,
    masks: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Path:
    """Write ``report.html`` (:mod:`disk_hloc.report.page`).

    Args:
        output: the folder of ``disk-hloc reconstruct``, ``triangulate``, ``compare`` or
            ``finetune``, or a map.
        image_dir: the photos; None where they were when the report was made last.
        masks: of the photos of a model.
        command: the command that made the folder; None is that of last time.

    Returns:
        The page.

    Raises:
        DiskHlocError: there are no results or no model with its database, or it is not known
            where its photos are.
    """
    path = output / _MADE_OF
    known = _read(path)
    if image_dir is None:
        if "photos" not in known:
            raise DiskHlocError(
                f"{output} does not say where its photos are: give their folder with --images"
            )
        image_dir = Path(known["photos"])
    if not image_dir.is_dir():
        raise DiskHlocError(f"there is no folder {image_dir} of photos: give it with --images")
    shown = str(known.get("command", "")) if command is None else command
    results = _read(output / "results.json")
    if "groups" in results:
        written = _of_fine_tuning(output, image_dir, results, shown)
    elif "rows" in results:
        written = _of_comparison(output, image_dir, results, shown)
    else:
        sfm_dir = output / SFM if (output / SFM).is_dir() else output
        if is_map(output):
            sfm_dir = read_map(output).model
        written = model_page.write(output, sfm_dir, image_dir, masks=masks, command=shown)
    replace_json(path, {"photos": str(image_dir.resolve()), "command": shown})
    return written


def _of_comparison(output: Path, image_dir: Path, results: Mapping[str, Any], command: str) -> Path:
    rows = results["rows"]
    lines, notes = comparison.cells(rows)
    return comparison_page.write(
        output,
        image_dir,
        {name: find_row(name).files(output) for name, row in rows.items() if "figures" in row},
        read_pairs(output / "pairs.txt"),
        [Table("Rows", lines)],
        kind="comparison",
        notes=[*notes, *comparison.LEGEND],
        warnings=[
            f"{name} was not run: {row['reason']}" for name, row in rows.items() if "reason" in row
        ],
        settings=results["settings"],
        command=command,
    )


def _of_fine_tuning(
    output: Path, image_dir: Path, results: Mapping[str, Any], command: str
) -> Path:
    settings = results["settings"]
    unseen = results["groups"].get("unseen", {}).get("better", {})
    warnings = []
    if unseen.get("fell", 0) > unseen.get("rose", 0):
        warnings.append(
            f"The training did not help: of the pairs of held-out photos, {unseen['fell']} have a "
            f"smaller share of right matches than before, and {unseen['rose']} a larger one."
        )
    return comparison_page.write(
        output,
        image_dir,
        {row: RowFiles.in_folder(output / row) for row in comparison_of_weights.ROWS},
        list(combinations(results["held_out"], 2)),
        [
            Table("Pairs", comparison_of_weights.table(results)),
            Table("Models", comparison_of_weights.model_table(results)),
        ],
        kind="fine-tuning",
        notes=[
            comparison_of_weights.note(settings["judged_by"]),
            f"Held out: {', '.join(results['held_out'])}.",
        ],
        warnings=warnings,
        seconds={"training": settings["seconds"]},
        settings={key: value for key, value in settings.items() if key != "images"},
        command=command,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except PARSER_ERRORS as error:
        raise DiskHlocError(
            f"{path} is broken: {' '.join(str(error).split())}; remove it"
        ) from error
