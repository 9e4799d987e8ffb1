"""What the methods for pairs know of photos."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.exif import Exif, read_exif
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.stages.retrieve import most_similar


class NoPairs(DiskHlocError):
    """A method finds no pair of the photos."""


@dataclass(frozen=True)
class Photos:
    """The photos that pairs are chosen of. What only some methods need is found when they ask.

    Attributes:
        names: of the photos.
        image_dir: their folder, whose EXIF data give times and positions; None if it is not known.
        describe: returns the file of their global descriptors
            (:mod:`disk_hloc.io.hloc.global_features`), and makes it if needed; None if there is no
            way to.
        device: where descriptors are compared: ``auto``, ``cpu``, ``cuda``, ...
    """

    names: Sequence[str]
    image_dir: Path | None = None
    describe: Callable[[], Path] | None = None
    device: str = "auto"

    def without(self, names: Collection[str]) -> Photos:
        """Return the photos without some of them."""
        return replace(self, names=[name for name in self.names if name not in names])

    @cached_property
    def exif(self) -> dict[str, Exif]:
        """The EXIF data of each photo. Takes about 1 ms for a photo: only headers are read."""
        if self.image_dir is None:
            return {name: Exif() for name in self.names}
        return {name: read_exif(self.image_dir / name) for name in self.names}

    @cached_property
    def global_descriptors(self) -> Path:
        """The file of global descriptors.

        Raises:
            DiskHlocError: there is no such file, or as the stage that makes it.
        """
        if self.describe is None:
            raise DiskHlocError(
                "pairs by retrieval need global descriptors: write them with `disk-hloc describe "
                "FEATURES.h5 GLOBAL.h5`, and give --descriptors GLOBAL.h5"
            )
        return self.describe()

    def similar(
        self, count: int, min_score: float = 0.0, queries: Sequence[str] | None = None
    ) -> dict[str, list[str]]:
        """Return the photos that look the most like each photo, the most similar first.

        Args:
            count: how many, at most; a photo without features has none.
            min_score: the smallest cosine of the global descriptors, 0 to 1.
            queries: photos; without them, all.

        Raises:
            DiskHlocError: as :attr:`global_descriptors`, or it lacks a photo.
        """
        return most_similar(
            self.global_descriptors,
            self.names if queries is None else queries,
            self.names,
            count,
            min_score=min_score,
            device=self.device,
        )


def in_order(pair: Pair) -> Pair:
    """Return a pair with its names in their order."""
    return pair if pair[0] <= pair[1] else (pair[1], pair[0])


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """Return each pair once, as it is met first in either order."""
    # Of millions of pairs, most are in order: then the key costs no memory of its own.
    seen: dict[Pair, Pair] = {}
    for pair in pairs:
        seen.setdefault(in_order(pair), pair)
    return list(seen.values())
