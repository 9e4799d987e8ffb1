"""Read and write hloc's pairs file, with two image names per line, separated by white space."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.names import require_relative
from disk_hloc.io.replace import replace_text
from disk_hloc.io.text import read_lines

Pair = tuple[str, str]


def read_pairs(path: Path) -> list[Pair]:
    """Read the pairs of a file in their order, without duplicates in either order.

    Raises:
        DiskHlocError: the file cannot be read or is empty, a line is not two names, a name is
            paired with itself, or a name points outside the folder of the images.
    """
    # There may be millions of pairs, so each name is stored once and pairs are kept as numbers.
    numbers: dict[str, int] = {}
    names: list[str] = []
    firsts, seconds = array("q"), array("q")
    for line_number, line in enumerate(read_lines(path, "the pairs"), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {line_number}"
        if len(words) != 2:
            raise DiskHlocError(
                f"{where}: expected two names, found {line.strip()!r}; this format cannot hold a "
                "name with white space: rename the image"
            )
        for word in words:
            if word not in numbers:
                name = require_relative(word, where)
                numbers[word] = numbers.setdefault(name, len(names))
                if numbers[word] == len(names):
                    names.append(name)
        if numbers[words[0]] == numbers[words[1]]:
            raise DiskHlocError(f"{where}: {words[0]} is paired with itself")
        firsts.append(numbers[words[0]])
        seconds.append(numbers[words[1]])
    if not firsts:
        raise DiskHlocError(f"{path} has no pairs")
    pairs = np.sort(np.stack([firsts, seconds]), axis=0)
    _, kept = np.unique(pairs[0] * len(names) + pairs[1], return_index=True)
    return [(names[firsts[i]], names[seconds[i]]) for i in np.sort(kept).tolist()]


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs to a file, which is complete or unchanged.

    Raises:
        DiskHlocError: a name has white space.
    """
    pairs = list(pairs)
    require_plain_names(name for pair in pairs for name in pair)
    replace_text(path, "".join(f"{a} {b}\n" for a, b in pairs))


def require_plain_names(names: Iterable[str]) -> None:
    """Check that names can be written to a pairs file, or to any list that splits at white space.

    Raises:
        DiskHlocError: a name has white space.
    """
    for name in names:
        if name.split() != [name]:
            raise DiskHlocError(
                f"the image name {name!r} has white space, which is not possible in a list of "
                "pairs or poses: rename the image"
            )


def nearby_order(pairs: Iterable[Pair], at_once: int) -> list[Pair]:
    """Sort pairs so that successive pairs share a small set of images.

    The table of all images by all images is traversed in square tiles. If N images are matched
    exhaustively, each is read up to about 2 N / ``at_once`` times instead of N times.

    Args:
        pairs: pairs in any order.
        at_once: number of images that are kept in memory.

    Returns:
        The same pairs.
    """
    pairs = list(pairs)
    place = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in pair}))}
    flat = (place[name] for pair in pairs for name in pair)
    row, column = np.fromiter(flat, np.int64, 2 * len(pairs)).reshape(-1, 2).T
    side = max(1, at_once // 2)
    order = np.lexsort((column, row, column // side, row // side))
    return [pairs[i] for i in order.tolist()]
