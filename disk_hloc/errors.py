"""The errors that a user can mend, one line each, and the exit codes of the command."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

# How torch, OpenCV, CUDA and HDF5 say that there is no memory, and SQLite and HDF5 no space.
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "unable to allocate",
    "insufficient memory",
    "std::bad_alloc",
)
_NO_SPACE = ("no space left on device", "database or disk is full")

# What the parsers of numpy, Pillow, torch, yaml and pycolmap raise when a file is broken or of
# another kind. Few promise an error of their own; fuzzing met each of these. RuntimeError includes
# NotImplementedError and RecursionError. MemoryError is not here: the file may be sound and the
# machine too small. Where only a length that a broken file states can cause it, it is added.
PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


class Exit(IntEnum):
    """What the command's exit code says; :data:`DESCRIPTIONS` has the words."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    BUSY = 4
    BUG = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130


DESCRIPTIONS = {
    Exit.DONE: "done",
    Exit.ERROR: "an error that you can mend; the last line names it and the way out",
    Exit.USAGE: "no such option or argument",
    Exit.SKIPPED: "done, but some images were skipped; the last line names them",
    Exit.BUSY: "another process is writing this output",
    Exit.BUG: "a bug of disk_hloc, with a traceback",
    Exit.INTERRUPTED: "Ctrl-C; what is done is kept",
}


class DiskHlocError(Exception):
    """Something in the input or on the machine that the user can mend.

    ``str(error)`` is one line; the command prints it without a traceback.

    Attributes:
        exit_code: what the command ends with.
    """

    exit_code: ClassVar[Exit] = Exit.ERROR


class Busy(DiskHlocError):
    """Another process is writing the file that was to be written."""

    exit_code = Exit.BUSY


class SkippedImages(DiskHlocError):
    """All is done, but for some images that were skipped; raised last."""

    exit_code = Exit.SKIPPED


class UnreadableImages(SkippedImages):
    """Images that could not be read; every other image was extracted and kept.

    Attributes:
        reasons: image name -> why it could not be read.
        feature_path: the features file, which holds all other images.
    """

    def __init__(self, reasons: Mapping[str, str], feature_path: Path) -> None:
        self.reasons = dict(reasons)
        self.feature_path = feature_path
        super().__init__(skipped(self.reasons, f" of {feature_path}"))


class NoModel(DiskHlocError):
    """The matches agree too little for a model; the database is whole."""


# What becomes of an image that cannot be read: it is left out and named at the end, or it ends
# the run at once.
ON_ERROR = ("skip", "stop")


def require_on_error(choice: str) -> None:
    """Check a choice of :data:`ON_ERROR`.

    Raises:
        DiskHlocError: it is none.
    """
    if choice not in ON_ERROR:
        raise DiskHlocError(f"on an error: {' or '.join(ON_ERROR)}, not {choice!r}")


def skipped(reasons: Mapping[str, str], of: str = "") -> str:
    """The line that names what was skipped, image name -> reason, and the way out."""
    count = len(reasons)
    listed = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return (
        f"{count} image{'s' if count > 1 else ''} could not be read and "
        f"{'were' if count > 1 else 'was'} left out{of}: {listed}. "
        "Mend or remove, then run the same command again: the others are kept."
    )


def of_the_machine(error: Exception) -> str | None:
    """What an error that is none of ours says about memory, disk or files; None if it is a bug.

    Libraries raise errors of their own where memory or disk end; they are told by their words.
    """
    reason = " ".join(str(error).split())
    lower = reason.lower()
    if is_out_of_memory(error):
        return (
            "there is not enough memory for this: take smaller images (resize_max of the conf), "
            f"fewer at a time, or a larger machine ({reason or type(error).__name__})"
        )
    if getattr(error, "errno", None) == errno.ENOSPC or any(part in lower for part in _NO_SPACE):
        return f"the disk is full: make room and run the same command again ({reason})"
    return reason if isinstance(error, OSError) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was asked for that a computer or a GPU does not have."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(part in said for part in _NO_MEMORY)


def listing(names: list[str], limit: int = 5) -> str:
    """The first ``limit`` names, comma-separated, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
