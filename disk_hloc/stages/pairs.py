"""Which images are matched with which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path

from ..errors import DiskHlocError
from ..io.features import list_features
from ..io.images import list_images
from ..io.pairs import read_pairs, write_pairs
from ..log import logger


def main(method: str, images_or_features: Path, output: Path) -> Path:
    """Write the pairs to match.

    Args:
        method: ``exhaustive``, every image with every other.
        images_or_features: a folder of images, or a features file.
        output: the pairs file.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: unknown method, fewer than two images, or a name with white space.
    """
    if method != "exhaustive":
        raise DiskHlocError(f"no way to choose pairs is called {method!r}; known: exhaustive")
    listed = list_images if images_or_features.is_dir() else list_features
    return exhaustive(listed(images_or_features), output)


def exhaustive(names: Sequence[str], output: Path) -> Path:
    """Write the pairs of every image with every other.

    Raises:
        DiskHlocError: fewer than two images, or a name with white space.
    """
    if len(names) < 2:
        raise DiskHlocError(f"a pair needs two images, there is {names[0] if names else 'none'}")
    pairs = list(combinations(names, 2))
    write_pairs(output, pairs)
    logger.info("%d pairs of %d images", len(pairs), len(names))
    return output


def given(source: Path, output: Path, without: Collection[str] = ()) -> Path:
    """Copy a user's pairs, less those with an image of ``without``.

    Raises:
        DiskHlocError: the file is broken, or no pair is left.
    """
    pairs = read_pairs(source)
    kept = [pair for pair in pairs if not set(pair) & set(without)]
    if not kept:
        raise DiskHlocError(f"every pair of {source} has an image that cannot be read")
    write_pairs(output, kept)
    logger.info("%d pairs of %s, %d left out", len(kept), source, len(pairs) - len(kept))
    return output
