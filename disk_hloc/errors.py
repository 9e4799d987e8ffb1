"""The errors that a user can mend: one line that names the file and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class DiskHlocError(Exception):
    """Something in the input or on the machine that the user can mend.

    ``str(error)`` is one line; the command prints it without a traceback.
    """


class UnreadableImages(DiskHlocError):
    """Images that could not be read; every other image was extracted and kept.

    Attributes:
        reasons: image name -> why it could not be read.
        feature_path: the features file, which holds all other images.
    """

    def __init__(self, reasons: Mapping[str, str], feature_path: Path) -> None:
        self.reasons = dict(reasons)
        self.feature_path = feature_path
        listed = "; ".join(f"{name} ({reason})" for name, reason in self.reasons.items())
        count = len(self.reasons)
        super().__init__(
            f"{count} image{'s' if count > 1 else ''} could not be read and "
            f"{'were' if count > 1 else 'was'} left out of {feature_path}: {listed}. "
            "Mend or remove, then run the same command again: the others are kept."
        )


class Busy(DiskHlocError):
    """Another process is writing the same output."""


class NoModel(DiskHlocError):
    """The matches agree too little for a model; the database is whole."""


def listing(names: list[str], limit: int = 5) -> str:
    """The first ``limit`` names, comma-separated, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
