"""hloc's pairs file: two image names a line, separated by white space."""

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
    """The pairs of a file in their order, each unordered pair once.

    Raises:
        DiskHlocError: the file cannot be read, holds no pair, a line is not two names, or a name
            leads out of the folder of the images.
    """
    # Each name once, and pairs as numbers until they are all known: there may be millions.
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
                f"{where}: {line.strip()!r} is not two names; a name with white space cannot be "
                "written in this format, so rename the image"
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
        raise DiskHlocError(f"{path} holds no pair")
    pairs = np.sort(np.stack([firsts, seconds]), axis=0)
    _, kept = np.unique(pairs[0] * len(names) + pairs[1], return_index=True)
    return [(names[firsts[i]], names[seconds[i]]) for i in np.sort(kept).tolist()]


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs; the file is whole or unchanged.

    Raises:
        DiskHlocError: a name has white space.
    """
    pairs = list(pairs)
    require_plain_names(name for pair in pairs for name in pair)
    replace_text(path, "".join(f"{a} {b}\n" for a, b in pairs))


def require_plain_names(names: Iterable[str]) -> None:
    """Check that names can be written into a pairs file, or any list that splits at white space.

    Raises:
        DiskHlocError: one has white space.
    """
    for name in names:
        if name.split() != [name]:
            raise DiskHlocError(
                f"the image name {name!r} has white space, which a list of pairs or poses cannot "
                "hold: rename the image"
            )


def nearby_order(pairs: Iterable[Pair], at_once: int) -> list[Pair]:
    """Pairs in an order in which the images of successive pairs are few.

    The table of all images by all images is walked square by square, so that of N images, matched
    exhaustively, each is read at most about 2 N / ``at_once`` times instead of N times.

    Args:
        pairs: in any order.
        at_once: how many images are kept at a time.
    """
    pairs = list(pairs)
    place = {name: i for i, name in enumerate(sorted({name for pair in pairs for name in pair}))}
    flat = (place[name] for pair in pairs for name in pair)
    row, column = np.fromiter(flat, np.int64, 2 * len(pairs)).reshape(-1, 2).T
    side = max(1, at_once // 2)
    order = np.lexsort((column, row, column // side, row // side))
    return [pairs[i] for i in order.tolist()]
