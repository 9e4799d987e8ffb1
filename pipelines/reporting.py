"""The page of a reconstruction, and what is needed to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.io.map_folder import is_map, read_map
from disk_hloc.io.model_folders import SFM
from disk_hloc.io.replace import replace_json
from disk_hloc.report import page

# Beside the page: where the photos are, and the command that made the model.
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
        output: the folder of ``disk-hloc reconstruct`` or ``triangulate``, or a map.
        image_dir: the photos; None where they were when the report was made last.
        masks: of the photos.
        command: the command that made the folder; None is that of last time.

    Returns:
        The page.

    Raises:
        DiskHlocError: there is no model with its database, or it is not known where its photos are.
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
    shown = known.get("command", "") if command is None else command
    sfm_dir = output / SFM if (output / SFM).is_dir() else output
    if is_map(output):
        sfm_dir = read_map(output).model
    written = page.write(output, sfm_dir, image_dir, masks=masks, command=shown)
    replace_json(path, {"photos": str(image_dir.resolve()), "command": shown})
    return written


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(content[key]) for key in ("photos", "command") if key in content}
    except PARSER_ERRORS as error:
        raise DiskHlocError(
            f"{path} is broken: {' '.join(str(error).split())}; remove it"
        ) from error
