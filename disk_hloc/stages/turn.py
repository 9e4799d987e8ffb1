"""Which photos of a folder have to be turned so that all are the same way up.

DISK matches photos that are turned against each other by up to 30 degrees (benchmarks/RESULTS.md).
Photos from phones are stored as the sensor was held, with the orientation in their EXIF data; other
software loses it. So EXIF gives the first guess, and photos then vote on each other
(:mod:`disk_hloc.models.turn_votes`): each is compared with those that look most like it, the
clearest votes join photos to groups, and of a group's four ways up the one is taken that leaves
most of its photos as EXIF says, or as they are stored. A photo that agrees with no other is left at
the first guess.

Beside ``features.h5`` a file ``.features.h5.turns`` holds the turns, in degrees counter-clockwise,
and the digest of what they were made of: while the photos stay the same, nobody votes again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from disk_hloc.choices import TURNS
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.digests import digest_of_data
from disk_hloc.io.exif import read_exif
from disk_hloc.io.images import ImageReadError, read_image
from disk_hloc.io.inputs import Inputs
from disk_hloc.io.masks import Masks
from disk_hloc.io.replace import replace_json
from disk_hloc.io.turns import in_degrees
from disk_hloc.log import logger
from disk_hloc.models import turn_votes, vlad
from disk_hloc.models.turn_votes import Oriented

# Of how turns are decided: a file of another version is not believed.
_VERSION = 1
# A photo is compared with this many that look most like it,
NEIGHBOURS = 3
# and with this many while it agrees with no photo of the largest group.
CANDIDATES = 20
# Of more photos, EXIF alone decides: their keypoints would not fit in memory.
MAX_PHOTOS = 10_000
# Of the vectors that say which photos look alike.
_CLUSTERS = 32


def main(
    choice: str,
    image_dir: Path,
    names: Sequence[str],
    feature_path: Path,
    *,
    masks: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Decide by how many quarters each photo is turned before features are detected.

    Args:
        choice: ``auto`` (EXIF and votes), ``exif``, ``none``, or ``0``, ``90``, ``180``, ``270``
            degrees counter-clockwise for all photos.
        image_dir: the photos.
        names: of all photos that features are compared of.
        feature_path: the features file that is made of the turned photos; the turns are remembered
            beside it (:func:`turns_path`).
        masks: where keypoints may be; votes come from there, too.

    Returns:
        Name -> quarters, 1 to 3 counter-clockwise, of the photos that are turned
        (:data:`disk_hloc.io.turns.Turns`).

    Raises:
        DiskHlocError: there is no such choice, or a mask cannot be read or does not fit.
    """
    if choice not in TURNS:
        raise DiskHlocError(f"no turn is called {choice!r}; known: {', '.join(TURNS)}")
    path = turns_path(feature_path)
    if choice in ("none", "0"):
        path.unlink(missing_ok=True)
        return {}
    if choice not in ("auto", "exif"):
        same = dict.fromkeys(names, int(choice) // 90)
        replace_json(path, {"made_of": choice, "turns": in_degrees(same)})
        return same
    votes = choice == "auto" and len(names) <= MAX_PHOTOS
    if choice == "auto" and not votes:
        logger.warning(
            "%d photos are too many to vote on their turns (%d are the limit): EXIF alone decides",
            len(names), MAX_PHOTOS,
        )  # fmt: skip
    # EXIF looks at no mask.
    sources = None if masks is None or not votes else Masks(masks)
    inputs = Inputs(feature_path, image_dir, sources)
    made_of = digest_of_data([_VERSION, votes, {name: inputs.of(name) for name in names}])
    inputs.save()
    turns = _remembered(path, made_of)
    if turns is None:
        tags = {name: read_exif(image_dir / name).quarter_turns for name in names}
        turns = {name: quarters for name, quarters in tags.items() if quarters}
        if votes and len(names) > 1:
            turns = _voted(image_dir, tags, sources)
        replace_json(path, {"made_of": made_of, "turns": in_degrees(turns)})
    _log(turns, len(names))
    return turns


def beside(
    known: Sequence[Oriented],
    known_turns: Sequence[int],
    image_dir: Path,
    names: Sequence[str],
    *,
    masks: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Decide by how many quarters new photos are turned, to be the same way up as known ones.

    Each is compared with those that look most like it, known or new, so one that agrees with no
    known photo may do so by others. Those that agree with none are turned as :func:`main` does it.

    Args:
        known: one photo at least, as :func:`disk_hloc.models.turn_votes.describe` sees it.
        known_turns: the quarters by which each of them is turned.
        image_dir: the new photos.
        names: of the new photos.
        masks: where keypoints may be; votes come from there, too.

    Returns:
        Name -> quarters, 1 to 3 counter-clockwise, of the new photos that are turned.

    Raises:
        DiskHlocError: a mask cannot be read or does not fit.
    """
    tags = [read_exif(image_dir / name).quarter_turns for name in names]
    seen = [*known, *_look(image_dir, names, None if masks is None else Masks(masks))]
    start = len(known)
    # The known photos are one group, whatever others say.
    agreements = [
        _Agreement(sys.maxsize, 0, k, (known_turns[k] - known_turns[0]) % 4)
        for k in range(1, start)
    ]
    candidates = _alike(seen)[start:].tolist()
    for pair in {(min(i, j), max(i, j)) for i, row in enumerate(candidates, start) for j in row}:
        agreements += _agreement(seen, *pair)
    guessed = np.array([*known_turns, *(tag or 0 for tag in tags)])
    tagged = np.array([True] * start + [tag is not None for tag in tags])
    turns = {}
    for members, offsets in _joined(len(seen), agreements):
        if members[0] == 0:
            way_up = known_turns[0] - offsets[0]
        else:
            way_up = _way_up(guessed[members], tagged[members], offsets)
        for i, offset in zip(members, offsets, strict=True):
            if i >= start and (offset + way_up) % 4:
                turns[names[i - start]] = int(offset + way_up) % 4
    _log(turns, len(names))
    return turns


def _log(turns: Mapping[str, int], count: int) -> None:
    if turns:
        shown = [f"{name} by {degrees}" for name, degrees in in_degrees(turns).items()]
        logger.info(
            "%d of %d photos are turned for extraction, degrees counter-clockwise: %s",
            len(turns), count, listing(shown),
        )  # fmt: skip


def turns_path(feature_path: Path) -> Path:
    """Return the file beside a features file that remembers the turns of its photos."""
    return feature_path.with_name(f".{feature_path.name}.turns")


def read_turns(feature_path: Path) -> dict[str, int]:
    """Return the turns that :func:`main` decided on last, in degrees counter-clockwise."""
    return in_degrees(_remembered(turns_path(feature_path)) or {})


def _remembered(path: Path, made_of: str | None = None) -> dict[str, int] | None:
    """Return the turns of a file; None if there is no such file, or of other photos."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if made_of not in (None, content["made_of"]):
            return None
        return {str(name): int(degrees) // 90 for name, degrees in content["turns"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # of a file that something else wrote or damaged


def _voted(
    image_dir: Path, tags: Mapping[str, int | None], sources: Masks | None
) -> dict[str, int]:
    """Return the turns that photos vote for, given what EXIF says of each."""
    names = list(tags)
    seen = _look(image_dir, names, sources)
    groups = _groups(seen)
    guessed = np.array([tags[name] or 0 for name in names])
    tagged = np.array([tags[name] is not None for name in names])
    turns = {}
    for members, offsets in groups:
        quarters = (offsets + _way_up(guessed[members], tagged[members], offsets)) % 4
        turns.update({names[i]: int(turn) for i, turn in zip(members, quarters, strict=True)})
    contradicted = [name for name in names if tags[name] not in (None, turns[name])]
    if contradicted:
        logger.warning(
            "the neighbours of %d photos show another way up than their EXIF data, and are "
            "believed (--turn exif believes the data): %s",
            len(contradicted), listing(contradicted),
        )  # fmt: skip
    return {name: turns[name] for name in names if turns[name]}


def _look(image_dir: Path, names: Sequence[str], sources: Masks | None) -> list[Oriented]:
    """Describe all photos; one that cannot be read has no keypoints."""

    def look(name: str) -> Oriented:
        try:
            image = read_image(image_dir / name, grayscale=True)
        except ImageReadError:
            return turn_votes.describe(np.zeros((1, 1), np.uint8))  # extraction says so
        height, width = image.shape
        return turn_votes.describe(
            image, None if sources is None else sources(name, (width, height))
        )

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        described = pool.map(look, names)
        return list(tqdm(described, total=len(names), desc="Find turned photos", unit="image"))


class _Agreement(NamedTuple):
    """Two photos that agree, and by how many quarters the second is to be turned more."""

    votes: int
    first: int
    second: int
    quarters: int


# Photos that agree, and the quarters of each against the first.
_Group = tuple[list[int], np.ndarray]


def _groups(seen: Sequence[Oriented]) -> list[_Group]:
    """Compare photos with those that look like them, and join those that agree."""
    candidates = _alike(seen)
    compared: set[tuple[int, int]] = set()
    agreements: list[_Agreement] = []

    def compare(pairs: Iterable[tuple[int, int]]) -> None:
        for pair in pairs:
            first, second = sorted(pair)
            if (first, second) in compared:
                continue
            compared.add((first, second))
            agreements.extend(_agreement(seen, first, second))

    compare((i, int(j)) for i, row in enumerate(candidates) for j in row[:NEIGHBOURS])
    for rank in range(NEIGHBOURS, candidates.shape[1]):
        groups = _joined(len(seen), agreements)
        if len(groups) == 1:
            break
        outside = chain.from_iterable(members for members, _ in groups[1:])
        of_group = {i: k for k, (members, _) in enumerate(groups) for i in members}
        pairs = ((i, int(candidates[i, rank])) for i in outside)
        compare(pair for pair in pairs if of_group[pair[0]] != of_group[pair[1]])
    return _joined(len(seen), agreements)


def _agreement(seen: Sequence[Oriented], first: int, second: int) -> list[_Agreement]:
    """Compare two photos; return an empty list if they do not agree."""
    counted = turn_votes.votes(seen[first], seen[second])
    quarters = turn_votes.clear_turn(counted)
    if quarters is None:
        return []
    return [_Agreement(int(counted[quarters]), first, second, quarters)]


def _alike(seen: Sequence[Oriented]) -> np.ndarray:
    """Return (N, K) int64: for each photo the others that look most like it, the nearest first."""
    pool = np.concatenate([one.descriptors for one in seen])
    if not len(pool):
        return np.zeros((len(seen), 0), np.int64)
    # A sample serves as well as clusters do, for neighbours that are compared anyway.
    chosen = np.linspace(0, len(pool) - 1, min(_CLUSTERS, len(pool))).astype(np.int64)
    codebook = turn_votes.comparable(pool[chosen])
    vectors = np.stack(
        [vlad.describe(turn_votes.comparable(one.descriptors).T, codebook) for one in seen]
    )
    count = min(CANDIDATES, len(seen) - 1)
    rows = []
    for i, vector in enumerate(vectors):
        cosines = vectors @ vector
        cosines[i] = -np.inf
        rows.append(np.argsort(-cosines, kind="stable")[:count])
    return np.stack(rows)


def _joined(count: int, agreements: Iterable[_Agreement]) -> list[_Group]:
    """Join photos by their clearest agreements; groups come with the largest first."""
    group_of = list(range(count))
    members = {i: [i] for i in range(count)}
    offsets = np.zeros(count, np.int64)
    for _, first, second, quarters in sorted(agreements, key=lambda one: (-one.votes, *one[1:])):
        mine, other = group_of[first], group_of[second]
        if mine == other:
            continue
        shift = offsets[first] + quarters - offsets[second]
        if len(members[mine]) < len(members[other]):
            mine, other, shift = other, mine, -shift
        moved = members.pop(other)
        offsets[moved] += shift
        for i in moved:
            group_of[i] = mine
        members[mine] += moved
    found = [sorted(group) for group in members.values()]
    found.sort(key=lambda group: (-len(group), group[0]))
    return [(group, offsets[group]) for group in found]


def _way_up(guessed: np.ndarray, tagged: np.ndarray, offsets: np.ndarray) -> int:
    """Return the quarters to add to a group's offsets: those that agree with most guesses.

    Of two that agree with as many, the one that agrees with more EXIF data, then with the first
    photo.
    """

    def agreeing(quarters: int) -> tuple[int, int, bool]:
        same = (offsets + quarters) % 4 == guessed
        return int(same.sum()), int((same & tagged).sum()), bool(same[0])

    return max(range(4), key=agreeing)
