"""hloc's files, as other programs and interrupted runs write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from disk_hloc.io.hloc.features import feature_entry
from disk_hloc.io.hloc.global_features import global_entry
from disk_hloc.io.hloc.matches import match_entry, names_to_pair
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import journal_path, put
from disk_hloc.io.store.journal import Dataset, Journal


def write_features(
    path: Path, name: str, features: Mapping[str, np.ndarray], uncertainty: float
) -> None:
    _put(path, *feature_entry(name, features, uncertainty))


def write_matches(path: Path, pair: Pair, matches0: np.ndarray, scores0: np.ndarray) -> None:
    _put(path, *match_entry(names_to_pair(*pair), matches0, scores0))


def write_global(path: Path, name: str, descriptor: np.ndarray) -> None:
    _put(path, *global_entry(name, descriptor))


def unfinished(path: Path) -> set[str]:
    """Return the entries that an interrupted run has kept for a file."""
    assert not path.exists()
    journal = Journal(journal_path(path))
    names = set(journal.names)
    journal.close()
    return names


def _put(path: Path, name: str, datasets: Sequence[Dataset]) -> None:
    with h5py.File(path, "a", libver="latest") as file:
        if name in file:
            del file[name]
        put(file, name, datasets)
