"""The errors that a user can fix, one line each, and the exit codes of the command."""

from __future__ import annotations

import errno
import struct
import tokenize
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from disk_hloc.choices import ON_ERROR

# How torch, OpenCV, CUDA and HDF5 report that memory ran out, and SQLite and HDF5 that the disk
# is full.
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
    tokenize.TokenError,
)


class Exit(IntEnum):
    """Exit codes of the command; :data:`DESCRIPTIONS` explains them."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SKIPPED = 3
    BUSY = 4
    BUG = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130
    TERMINATED = 143


DESCRIPTIONS = {
    Exit.DONE: "done",
    Exit.ERROR: "an error that you can fix; the last line says what happened and what to do",
    Exit.USAGE: "an unknown, missing or invalid option or argument",
    Exit.SKIPPED: "done, but some images were skipped; the last line names them",
    Exit.BUSY: "another process is writing this output",
    Exit.BUG: "a bug in disk_hloc; a traceback is printed",
    Exit.INTERRUPTED: "interrupted by Ctrl-C; finished work is kept",
    Exit.TERMINATED: "terminated by SIGTERM or SIGHUP; finished work is kept",
}


class DiskHlocError(Exception):
    """An error in the input or on the machine that the user can fix.

    ``str(error)`` is one line; the command prints it without a traceback.

    Attributes:
        exit_code: The exit code of the command.
    """

    exit_code: ClassVar[Exit] = Exit.ERROR


class Busy(DiskHlocError):
    """Another process is writing to the output file."""

    exit_code = Exit.BUSY


class SkippedImages(DiskHlocError):
    """Everything is done except for some images that were skipped. Raised at the end."""

    exit_code = Exit.SKIPPED


class UnreadableImages(SkippedImages):
    """Some images could not be read; the features of all others were extracted and kept.

    Attributes:
        reasons: Image name -> why it could not be read.
        feature_path: The features file, which has all other images.
    """

    def __init__(self, reasons: Mapping[str, str], feature_path: Path) -> None:
        self.reasons = dict(reasons)
        self.feature_path = feature_path
        super().__init__(skipped(self.reasons, f" of {feature_path}"))


class NoModel(DiskHlocError):
    """The matches agree too little to build a model; the database is complete.

    Attributes:
        database_path: The database, if it is still there.
    """

    database_path: Path | None = None


def require_on_error(choice: str) -> None:
    """Check that ``choice`` is ``skip`` or ``stop``.

    Raises:
        DiskHlocError: It is neither.
    """
    if choice not in ON_ERROR:
        raise DiskHlocError(f"on_error must be {' or '.join(ON_ERROR)}, not {choice!r}")


def skipped(reasons: Mapping[str, str], of: str = "") -> str:
    """Return the line that names the skipped images and says what to do.

    Args:
        reasons: Image name -> why it could not be read.
        of: What the images were left out of, with a leading space: ``" of features.h5"``.
    """
    count = len(reasons)
    listed = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return (
        f"{count} image{'s' if count > 1 else ''} could not be read and "
        f"{'were' if count > 1 else 'was'} left out{of}: {listed}. "
        "Fix or remove, then run the same command again: the others are kept."
    )


def of_the_machine(error: Exception) -> str | None:
    """Return what an error of a library says about memory, disk or files; None if it is a bug.

    Libraries raise different errors when memory or disk space runs out; they are recognized by
    their messages.
    """
    reason = " ".join(str(error).split())
    lower = reason.lower()
    if is_out_of_memory(error):
        return (
            "not enough memory: use smaller images (resize_max in the conf), fewer at a time, or "
            f"a larger machine ({reason or type(error).__name__})"
        )
    if getattr(error, "errno", None) == errno.ENOSPC or any(part in lower for part in _NO_SPACE):
        return f"the disk is full: free some space and run the same command again ({reason})"
    return reason if isinstance(error, OSError) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the computer or of a GPU ran out."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(part in said for part in _NO_MEMORY)


def listing(names: list[str], limit: int = 5) -> str:
    """Return the first ``limit`` names, comma-separated, and the number of the others."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
