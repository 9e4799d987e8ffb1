"""Output folders: one run at a time, and nothing in them is an input.

A folder that a pipeline writes to has the file ``.disk_hloc.lock``. Its lock keeps other runs out,
and the file itself marks the folder: pictures below it are not photos, even where it lies in the
folder of the photos.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from disk_hloc.errors import DiskHlocError

from .locks import open_locked

MARK = ".disk_hloc.lock"

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def claimed(folder: Path, *inputs: Path | None) -> Iterator[Path]:
    """Create an output folder if needed, and keep other runs out of it.

    A new folder is removed again if the run fails before it writes anything.

    Args:
        folder: the output folder.
        inputs: folders that it must not be, such as that of the photos.

    Raises:
        Busy: another run writes to the folder.
        DiskHlocError: it is an input, or it cannot be created or written.
    """
    for path in inputs:
        if path is not None and folder.exists() and path.exists() and folder.samefile(path):
            raise DiskHlocError(
                f"{folder} is an input and cannot be the output folder too: give another folder"
            )
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_locked(folder / MARK, folder)
    except OSError as error:
        raise DiskHlocError(
            f"{folder} cannot be used as an output folder: {error.strerror or error}"
        ) from error
    with lock:
        try:
            yield folder
        except BaseException:
            if not existed and [path.name for path in folder.iterdir()] == [MARK]:
                (folder / MARK).unlink()
                folder.rmdir()
            raise


def one_run(output: str, *inputs: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a pipeline, which then keeps other runs out of its output folder.

    Args:
        output: name of the argument that is the output folder.
        inputs: names of arguments that it must not be; see :func:`claimed`.
    """

    def decorate(pipeline: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(pipeline)

        @functools.wraps(pipeline)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs).arguments
            with claimed(given[output], *(given.get(name) for name in inputs)):
                return pipeline(*args, **kwargs)

        return run

    return decorate


def mark(folder: Path) -> None:
    """Create a folder for pictures, and mark it as an output, so that they are not photos."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
