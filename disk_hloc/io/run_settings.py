"""Folders of results that remember the settings of their run.

What a run has finished is kept, so a later run may only resume it with the same settings.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError

from .replace import replace_text

# What tells our settings.json from another program's.
_MARK = {"made_by": "disk_hloc"}


def as_stored(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON gives them back: tuples as lists, keys as strings."""
    stored: dict[str, Any] = json.loads(json.dumps(settings))
    return stored


def differences(former: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that a former run had different, as ``key (before, now value)``."""
    return [
        f"{key} ({_shown(former.get(key))}, now {_shown(value)})"
        for key, value in as_stored(settings).items()
        if former.get(key) != value
    ]


def require_same(
    path: Path, former: Mapping[str, Any], settings: Mapping[str, Any], meaning: str = "start over"
) -> None:
    """Check that a run has the settings of the former run that it resumes.

    Args:
        path: the file that holds the settings of the former run.
        former: those settings, as stored.
        settings: the settings of this run.
        meaning: what ``--overwrite`` would do.

    Raises:
        DiskHlocError: some differ; the message lists them.
    """
    differing = differences(former, settings)
    if differing:
        raise DiskHlocError(
            f"{path} was made with other settings: {'; '.join(differing)}; use another folder, or "
            f"--overwrite to {meaning}"
        )


def claim(
    folder: Path, settings: Mapping[str, Any], *, made: Sequence[str], overwrite: bool = False
) -> None:
    """Note the settings of a run in its folder, or check that the run to resume had the same.

    Args:
        folder: the folder of results, which gets ``settings.json``.
        settings: the settings of this run.
        made: names of the files and folders that a run makes there.
        overwrite: remove what an earlier run made.

    Raises:
        DiskHlocError: the run to resume had other settings, its ``settings.json`` is broken, or
            something is in the way that no run made.
    """
    path = folder / "settings.json"
    former = _read(path)
    existing = [name for name in made if os.path.lexists(folder / name)]
    marked = former is not None and former.items() >= _MARK.items()
    if (former is None and existing) or (former is not None and overwrite and not marked):
        raise DiskHlocError(
            f"{folder / (existing[0] if former is None else path.name)} exists, and was not "
            "written by such a run: remove it, or use another folder"
        )
    if overwrite:
        for name in (*existing, path.name):
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    elif former is not None:
        require_same(path, former, settings)
    replace_text(path, json.dumps({**_MARK, **as_stored(settings)}, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DiskHlocError(
            f"{path} cannot be read ({error}): remove it and what belongs to it, or use another "
            "folder"
        ) from error


def _shown(value: Any) -> Any:
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 2 else value
