"""Which entries of a store have to be computed: new ones, and those whose inputs have changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from disk_hloc.log import logger

from .fingerprints import NOTHING, Fingerprint


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        todo: the entries to compute, in the order that they were asked for.
        gone: the entries that are in the store and were not asked for.
        changed: the entries of ``todo`` that the store has, made of other inputs.
        unknown: how many entries have no fingerprint and are used as they are.
        summary: what has changed, for the log; empty for a new store.
        path: the store's file.
        unit: what an entry is.
    """

    todo: list[str]
    gone: set[str]
    changed: set[str]
    unknown: int
    summary: str
    path: Path
    unit: str

    @property
    def outdated(self) -> set[str]:
        """The entries of the store that must not stay as they are."""
        return self.gone | self.changed

    def log(self) -> None:
        """Tell the user what has to be done and why."""
        if self.unknown:
            logger.warning(
                "%d of the %ss in %s have no record of what they were made of (another program or "
                "an earlier version wrote them): used as they are",
                self.unknown, self.unit, self.path,
            )  # fmt: skip
        if self.summary:
            logger.info("%s", self.summary)


def plan(
    path: Path,
    names: Sequence[str],
    entries: Mapping[str, Fingerprint | None],
    inputs: Callable[[str, Fingerprint], str | None],
    *,
    kinds: Sequence[str],
    unit: str,
    verb: str,
    exact: bool = True,
) -> Plan:
    """Compare a store with its inputs as they are now.

    Args:
        path: the store's file, for messages.
        names: the entries that are asked for.
        entries: those that the store has (:meth:`disk_hloc.io.store.store.Store.entries`).
        inputs: returns the digests that the inputs of an entry have now, as its fingerprint has
            them; None if an input is missing or cannot be read.
        kinds: what each of these digests is of, in the plural: ``photos``, ``masks``.
        unit: what an entry is: ``image``, ``pair``.
        verb: what is done with it: ``extract``, ``match``.
        exact: entries that are not asked for leave the store.
    """
    todo: list[str] = []
    reasons: Counter[str] = Counter()
    changed = set()
    unknown = 0
    for name in names:
        if name not in entries:
            todo.append(name)
            continue
        fingerprint = entries[name]
        if fingerprint is None:
            unknown += 1
            continue
        now = inputs(name, fingerprint)
        if now != fingerprint.inputs:
            todo.append(name)
            changed.add(name)
            reasons[_reason(fingerprint.inputs, now, kinds)] += 1
    gone = set(entries).difference(names) if exact else set()
    summary = ""
    if entries:
        new = len(todo) - len(changed)
        summary = _summary(reasons, new, len(gone), len(todo), len(names), unit, verb)
    return Plan(todo, gone, changed, unknown, summary, path, unit)


def _reason(former: str, now: str | None, kinds: Sequence[str]) -> str:
    """Return the kind of the first input that has changed."""
    if now is not None:
        # Inputs at the end of the line may be absent.
        parts = zip_longest(former.split(), now.split(), fillvalue=NOTHING)
        for kind, (one, other) in zip(kinds, parts, strict=False):
            if one != other:
                return kind
    return kinds[0]


def _summary(
    reasons: Mapping[str, int], new: int, gone: int, todo: int, total: int, unit: str, verb: str
) -> str:
    parts = [f"{count} {_counted(kind, count)} changed" for kind, count in reasons.items()]
    parts += [f"{new} {'is' if new == 1 else 'are'} new"] if new else []
    parts += [f"{gone} {'is' if gone == 1 else 'are'} gone"] if gone else []
    if not parts:
        return f"All {total} {unit}s are up to date"
    return f"{', '.join(parts)}: {todo} of {total} to {verb}"


def _counted(plural: str, count: int) -> str:
    return plural.removesuffix("s") if count == 1 else plural
