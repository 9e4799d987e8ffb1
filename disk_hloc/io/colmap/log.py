"""COLMAP's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pycolmap


@contextmanager
def log_to(folder: Path, verbose: bool) -> Iterator[None]:
    """Write COLMAP's log to ``folder/colmap.LOG.*``, and to the screen only if ``verbose``."""
    logging = pycolmap.logging
    before = (logging.alsologtostderr, logging.logtostderr)
    logging.set_log_destination(logging.INFO, folder / "colmap.LOG.")
    logging.logtostderr = False
    logging.alsologtostderr = verbose
    try:
        yield
    finally:
        logging.alsologtostderr, logging.logtostderr = before
