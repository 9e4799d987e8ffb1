"""hloc's pairs file: two image names a line, separated by white space."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import DiskHlocError
from .names import require_relative
from .replace import replace_text
from .text import read_lines

Pair = tuple[str, str]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file in their order, each unordered pair once.

    Raises:
        DiskHlocError: the file cannot be read, holds no pair, a line is not two names, or a name
            leads out of the folder of the images.
    """
    lines = read_lines(path, "the pairs")
    pairs: dict[frozenset[str], Pair] = {}
    for number, line in enumerate(lines, start=1):
        names = line.split()
        if not names:
            continue
        if len(names) != 2:
            raise DiskHlocError(
                f"{path}, line {number}: {line.strip()!r} is not two names; a name with white "
                "space cannot be written in this format, so rename the image"
            )
        names = [require_relative(name, f"{path}, line {number}") for name in names]
        if names[0] == names[1]:
            raise DiskHlocError(f"{path}, line {number}: {names[0]} is paired with itself")
        pairs.setdefault(frozenset(names), (names[0], names[1]))
    if not pairs:
        raise DiskHlocError(f"{path} holds no pair")
    return list(pairs.values())


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
    side = max(1, at_once // 2)

    def square(pair: Pair) -> tuple[int, int, int, int]:
        row, column = place[pair[0]], place[pair[1]]
        return row // side, column // side, row, column

    return sorted(pairs, key=square)
