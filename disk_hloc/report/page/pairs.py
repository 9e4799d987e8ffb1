"""The pairs of a report: a matrix of all, and lines between the keypoints of some."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.io import colmap
from disk_hloc.io.hloc.pairs import Pair

from .photos import to_base64

# How many of the strongest, the weakest and the rejected pairs are shown.
_OF_EACH = 8
_MAX_LINES = 300
# COLMAP's mappers take no pair with fewer inliers.
_MIN_INLIERS = 15


class MatchGraph:
    """What the database knows of pairs.

    Attributes:
        matches: pair -> how many matches it has.
        verified: pair -> (K, 2) verified matches.
        names: of its photos.
    """

    def __init__(self, database_path: Path) -> None:
        self.path = database_path
        with closing(sqlite3.connect(database_path)) as database:
            self._ids = {
                name: image_id
                for image_id, name in database.execute("SELECT image_id, name FROM images")
            }
            self.names = sorted(self._ids)
            names = {image_id: name for name, image_id in self._ids.items()}
            self.matches: dict[Pair, int] = {}
            for pair_id, rows in database.execute("SELECT pair_id, rows FROM matches"):
                first, second = colmap.pair_images(pair_id)
                self.matches[names[first], names[second]] = rows
        self.verified = colmap.read_verified(database_path)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return ``keypoints``, ``matched`` and ``verified`` -> name -> number."""
        found = colmap.read_counts(self.path, _MIN_INLIERS)
        return dict(zip(("keypoints", "matched", "verified"), found, strict=True))

    def matrix(self, names: Sequence[str]) -> str:
        """Return the (N, N) numbers of verified matches, as base64 of uint16, 0 for none."""
        index = {name: i for i, name in enumerate(names)}
        counts = np.zeros((len(names), len(names)), "<u2")
        for (first, second), found in self.verified.items():
            if first in index and second in index:
                number = min(len(found), 65535)
                counts[index[first], index[second]] = counts[index[second], index[first]] = number
        return to_base64(counts)

    def chosen(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the strongest, the weakest and the rejected pairs, with their lines."""
        known = set(names)
        sound = {
            pair: len(found)
            for pair, found in self.verified.items()
            if len(found) >= _MIN_INLIERS and known.issuperset(pair)
        }
        by_inliers = sorted(sound, key=lambda pair: (-sound[pair], pair))
        rejected = sorted(
            (pair for pair in self.matches if pair not in sound and known.issuperset(pair)),
            key=lambda pair: (-self.matches[pair], pair),
        )
        groups = {
            "strongest": by_inliers[:_OF_EACH],
            "weakest": by_inliers[_OF_EACH:][-_OF_EACH:][::-1],
            "rejected": rejected[:_OF_EACH],
        }
        index = {name: i for i, name in enumerate(names)}
        with closing(sqlite3.connect(self.path)) as database:
            return [
                {
                    "group": group,
                    "photos": [index[pair[0]], index[pair[1]]],
                    "matches": self.matches.get(pair, 0),
                    "inliers": sound.get(pair, 0),
                    **self._lines(database, pair, verified=group != "rejected"),
                }
                for group, pairs in groups.items()
                for pair in pairs
            ]

    def _lines(
        self, database: sqlite3.Connection, pair: Pair, *, verified: bool
    ) -> Mapping[str, str]:
        """Return float32 x0, y0, x1, y1 of matches, in COLMAP's pixels, as base64."""
        ids = [self._ids[name] for name in pair]
        found = self.verified[pair] if verified else _matches(database, *ids)
        chosen = found[np.linspace(0, len(found) - 1, min(len(found), _MAX_LINES)).astype(int)]
        ends = [
            _keypoints(database, image_id)[chosen[:, side]] for side, image_id in enumerate(ids)
        ]
        return {"lines": to_base64(np.concatenate(ends, axis=1).astype("<f4"))}


def _keypoints(database: sqlite3.Connection, image_id: int) -> np.ndarray:
    query = "SELECT rows, cols, data FROM keypoints WHERE image_id = ?"
    rows, cols, data = database.execute(query, (image_id,)).fetchone()
    # COLMAP stores no data for a photo without keypoints.
    return np.frombuffer(data or b"", np.float32).reshape(rows, cols or 2)[:, :2]


def _matches(database: sqlite3.Connection, first: int, second: int) -> np.ndarray:
    pair_id = colmap.pair_id(first, second)
    query = "SELECT rows, data FROM matches WHERE pair_id = ?"
    rows, data = database.execute(query, (pair_id,)).fetchone()
    return np.frombuffer(data or b"", np.uint32).reshape(rows, 2).astype(np.int64)
