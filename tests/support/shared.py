"""What several test files need and none changes, made once for all workers of pytest-xdist."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def build_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]
) -> Path:
    """Return a folder of this run of pytest that ``build`` has filled; copy what you change.

    The worker that asks first builds, and others wait. If building fails, what is half made is
    removed before the next one builds.

    Args:
        tmp_path_factory: pytest's fixture.
        name: of the folder, which is the same in all workers.
        build: is called with the folder, which is empty.

    Returns:
        The folder.

    Raises:
        Exception: whatever ``build`` raises.
    """
    base = tmp_path_factory.getbasetemp()
    # A worker's folder lies in that of the run.
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    folder, done = root / name, root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder
