"""Folders of results that remember the settings of their run.

What a run has finished is kept, so a later run may only resume it with the same settings.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError

from .replace import replace_text


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
        DiskHlocError: the run to resume had other settings, or its ``settings.json`` is broken.
    """
    path = folder / "settings.json"
    if overwrite:
        for name in (*made, path.name):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    if path.is_file():
        try:
            former = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DiskHlocError(
                f"{path} cannot be read ({error}): use --overwrite to start over"
            ) from error
        require_same(path, former, settings)
    replace_text(path, json.dumps(as_stored(settings), indent=2) + "\n")


def _shown(value: Any) -> Any:
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 2 else value
