"""hloc's lists of queries with intrinsics, and its pairs of queries and retrieved images."""

from __future__ import annotations

from pathlib import Path

import pycolmap

from ..errors import DiskHlocError, listing
from ..log import logger


def read_queries(pattern: Path) -> dict[str, pycolmap.Camera]:
    """Query name -> camera, of one list or of several.

    A line is ``name MODEL width height parameters...``, COLMAP's model and its parameters in
    pixels. A line that is not is named in a warning and left out.

    Args:
        pattern: a file, or a pattern such as ``queries/*_with_intrinsics.txt``.

    Raises:
        DiskHlocError: no file, one that cannot be read, or none with intrinsics.
    """
    paths = [pattern] if pattern.is_file() else sorted(pattern.parent.glob(pattern.name))
    if not paths:
        raise DiskHlocError(f"no list of queries is called {pattern}")
    queries: dict[str, pycolmap.Camera] = {}
    broken = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DiskHlocError(f"cannot read the queries {path}: {error}") from error
        for line in lines:
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            camera = _camera(words[1:])
            if camera is None:
                broken.append(words[0])
            else:
                queries[words[0]] = camera
    form = "`name MODEL width height parameters...`"
    if not queries:
        raise DiskHlocError(
            f"{listing([str(path) for path in paths])} has no query with intrinsics: a line is "
            f"{form}, as `query/1.jpg PINHOLE 1600 1200 1200 1200 800 600`"
        )
    if broken:
        count = len(broken)
        logger.warning("%d queries, not %s, are left out: %s", count, form, listing(broken))
    return queries


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
    except ValueError:
        return None
    return camera if camera.verify_params() else None


def read_retrieval(path: Path) -> dict[str, list[str]]:
    """Query name -> names of its retrieved images, in their order, each once.

    Raises:
        DiskHlocError: the file cannot be read, holds nothing, or a line is not two names.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DiskHlocError(f"cannot read the retrieved pairs {path}: {error}") from error
    retrieved: dict[str, dict[str, None]] = {}
    for number, line in enumerate(lines, start=1):
        names = line.split()
        if not names:
            continue
        if len(names) != 2:
            raise DiskHlocError(f"{path}, line {number}: {line.strip()!r} is not two names")
        retrieved.setdefault(names[0], {})[names[1]] = None
    if not retrieved:
        raise DiskHlocError(f"{path} holds no pair")
    return {query: list(names) for query, names in retrieved.items()}
