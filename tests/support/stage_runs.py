"""What the processes of tests/test_kills.py run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from disk_hloc.io.store import journal, store
from disk_hloc.stages import extract, match

EXTRACTOR = {
    "model": {"name": "disk", "max_keypoints": 256},
    "preprocessing": {"resize_max": 240},
}
MATCHER = {"model": {"name": "disk"}}
ENTRIES = {"extract": 10, "extract more": 6, "match": 45}


def run(stage: str, images: Path, folder: Path) -> None:
    """Run a stage in this process: extract, extract some, extract more, match."""
    features = folder / "features.h5"
    if stage.startswith("extract"):
        chosen = folder / "some.txt" if stage == "extract some" else None
        extract.main(EXTRACTOR, images, features, image_list=chosen, device="cpu")
    else:
        match.main(MATCHER, folder / "pairs.txt", features, folder / "matches.h5", device="cpu")


def run_until(point: str, stage: str, images: Path, folder: Path) -> None:
    """Run a stage that is killed while it makes the file."""

    def then_die(
        function: Callable[..., object],
        calls: int = 1,
        after: bool = False,
        counted: Callable[..., bool] = lambda *_: True,
    ) -> object:
        def wrapped(*arguments: object) -> object:
            nonlocal calls
            if not counted(*arguments):
                return function(*arguments)
            calls -= 1
            result = None if calls == 0 and not after else function(*arguments)
            if calls == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    def names_the_file(_: Path, target: Path) -> bool:
        return target.suffix == ".h5"

    if point == "first entry":
        store.put = then_die(store.put)  # type: ignore[assignment]
    elif point == "last entry":
        store.put = then_die(store.put, ENTRIES[stage], after=True)  # type: ignore[assignment]
    elif point == "before it has its name":
        Path.replace = then_die(Path.replace, counted=names_the_file)  # type: ignore[assignment,method-assign]
    elif point == "once it has its name":
        Path.replace = then_die(Path.replace, after=True, counted=names_the_file)  # type: ignore[assignment,method-assign]
    elif point == "without its journal":
        journal.Journal.remove = then_die(journal.Journal.remove, after=True)  # type: ignore[assignment,method-assign]
    run(stage, images, folder)
