"""Read hloc's lists of queries with intrinsics, and its pairs of queries and retrieved images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.names import require_relative
from disk_hloc.io.text import columns, read_lines
from disk_hloc.log import logger

# A word after the first.
_MODEL = re.compile(r"(?<=\s)[A-Z][A-Z_0-9]*(?=\s)")


def read_queries(pattern: Path) -> dict[str, pycolmap.Camera]:
    """Read the cameras of queries by name, from one list or several.

    A line is ``name MODEL width height parameters...``, with COLMAP's model and its parameters in
    pixels. Other lines are skipped with a warning.

    Args:
        pattern: a file, or a pattern such as ``queries/*_with_intrinsics.txt``.

    Raises:
        DiskHlocError: no file matches, a file cannot be read, no query has intrinsics, or a name
            points outside the folder of the images.
    """
    paths = [pattern] if pattern.is_file() else _matching(pattern)
    if not paths:
        raise DiskHlocError(f"no list of queries found: {pattern}")
    queries: dict[str, pycolmap.Camera] = {}
    broken = []
    for path in paths:
        for number, line in read_lines(path, "the queries"):
            name, camera = _query(line)
            if camera is None:
                broken.append(name)
                continue
            name = require_relative(name, f"{path}, line {number}")
            former = queries.setdefault(name, camera)
            if str(former) != str(camera):
                raise DiskHlocError(
                    f"{path}, line {number}: {name} has another camera in an earlier line: remove "
                    "one of them"
                )
    form = "`name MODEL width height parameters...`"
    if not queries:
        raise DiskHlocError(
            f"{listing([str(path) for path in paths])} has no query with intrinsics: expected "
            f"{form}, such as `query/1.jpg PINHOLE 1600 1200 1200 1200 800 600`"
        )
    if broken:
        count = len(broken)
        logger.warning("skipped %d queries, expected %s: %s", count, form, listing(broken))
    return queries


def _matching(pattern: Path) -> list[Path]:
    try:
        return sorted(pattern.parent.glob(pattern.name))
    except (OSError, ValueError, NotImplementedError) as error:
        raise DiskHlocError(f"cannot search for the queries {pattern}: {error}") from error


def _query(line: str) -> tuple[str, pycolmap.Camera | None]:
    """Return name and camera of a line; the name may have white space, a model has none."""
    for model in _MODEL.finditer(line):
        camera = _camera(line[model.start() :].split())
        if camera is not None:
            return line[: model.start()].strip(), camera
    return columns(line)[0], None


def _camera(words: list[str]) -> pycolmap.Camera | None:
    if len(words) < 4 or words[0] not in pycolmap.CameraModelId.__members__:
        return None
    try:
        camera = pycolmap.Camera(
            model=words[0],
            width=int(words[1]),
            height=int(words[2]),
            params=[float(word) for word in words[3:]],
        )
    except (ValueError, TypeError, OverflowError):
        # pycolmap raises these for a size that is negative or exceeds 64 bits.
        return None
    usable = camera.verify_params() and camera.width > 0 and camera.height > 0
    return camera if usable and np.isfinite(camera.params).all() else None


def read_retrieval(path: Path) -> dict[str, list[str]]:
    """Read the retrieved images of each query, in their order and without duplicates.

    Raises:
        DiskHlocError: the file cannot be read or is empty, a line is not two names, or a name
            points outside the folder of the images.
    """
    retrieved: dict[str, dict[str, None]] = {}
    for number, line in read_lines(path, "the retrieved pairs"):
        names = columns(line)
        if len(names) != 2:
            raise DiskHlocError(
                f"{path}, line {number}: expected two names, found {line!r}; separate names that "
                "have white space by a tab"
            )
        query, image = (require_relative(name, f"{path}, line {number}") for name in names)
        retrieved.setdefault(query, {})[image] = None
    if not retrieved:
        raise DiskHlocError(f"{path} has no pairs")
    return {query: list(names) for query, names in retrieved.items()}
