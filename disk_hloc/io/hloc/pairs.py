"""Read and write hloc's pairs file, with two image names per line, separated by white space.

A line with a name that has white space separates its names by a tab, which hloc does not read.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.names import require_relative
from disk_hloc.io.replace import replace_text
from disk_hloc.io.text import as_column, columns, read_lines, require_listable, separator

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
    for line_number, line in read_lines(path, "the pairs"):
        words = columns(line)
        where = f"{path}, line {line_number}"
        if len(words) != 2:
            raise DiskHlocError(
                f"{where}: expected two names, found {line!r}; separate names that have white "
                "space by a tab"
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
        DiskHlocError: a name has a tab or a line feed.
    """
    pairs = list(pairs)
    written = {name: as_column(name) for pair in pairs for name in pair}
    lines = (f"{written[a]}{separator(a, b)}{written[b]}\n" for a, b in pairs)
    replace_text(path, "".join(lines))


def to_line(pair: Pair) -> str:
    """Return a pair as one line of text, from which :func:`from_line` makes the same pair.

    Raises:
        DiskHlocError: a name has a tab or a line feed.
    """
    require_listable(pair)
    return separator(*pair).join(pair)


def from_line(line: str) -> Pair:
    """Return the pair of a line of :func:`to_line`."""
    first, second = line.split("\t") if "\t" in line else line.split()
    return first, second


def require_plain_names(names: Iterable[str]) -> None:
    """Check that hloc can read names in a pairs file: it splits lines at white space.

    Raises:
        DiskHlocError: a name has white space.
    """
    for name in names:
        if name.split() != [name]:
            raise DiskHlocError(
                f"the image name {name!r} has white space, which hloc cannot read in a list of "
                "pairs: use --engine native and models of disk_hloc, or rename the image"
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
