"""What the processes of tests/pipelines/test_map_add.py run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from disk_hloc.io import map_folder
from disk_hloc.pipelines import map_add
from disk_hloc.stages import index_map


def add_until(point: str, folder: Path, photos: Path) -> None:
    """Add photos to a map, in a process that is killed meanwhile."""
    replace_json = map_folder.replace_json

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def replace_and_die(path: Path, content: object) -> None:
        replace_json(path, content)
        die()

    if point == "its model is there":
        index_map.main = die  # type: ignore[assignment]
    elif point == "it counts":
        map_folder.replace_json = replace_and_die
    map_add.main(folder, photos, device="cpu")
