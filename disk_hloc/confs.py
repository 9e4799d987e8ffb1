"""Our named confs, configs/*.yaml, in hloc's dict form."""

from __future__ import annotations

import difflib
import math
import os
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import resources
from numbers import Integral, Real
from typing import Any, NamedTuple

import yaml

from disk_hloc.errors import DiskHlocError

Conf = dict[str, Any]


def extractors() -> dict[str, Conf]:
    """Return our extractor confs, name -> ``{output, model, preprocessing}``. The dicts are new."""
    return packaged("extractors")


def matchers() -> dict[str, Conf]:
    """Return our matcher confs, name -> ``{output, model}``. The dicts are new."""
    return packaged("matchers")


def global_descriptors() -> dict[str, Conf]:
    """Return our confs of global descriptors, name -> ``{output, model}``. The dicts are new."""
    return packaged("global")


def packaged(kind: str) -> dict[str, Conf]:
    """Return the confs of configs/``kind``.yaml by name. The dicts are new."""
    text = resources.files("disk_hloc.configs").joinpath(f"{kind}.yaml").read_text("utf-8")
    confs: dict[str, Conf] = yaml.safe_load(text)
    return confs


def find(kind: str, name: str) -> Conf:
    """Return one of our confs; :func:`disk_hloc.plugin.find_conf` also finds hloc's and files.

    Args:
        kind: ``extractors``, ``matchers``, ``dense``, ``global`` or ``train``.
        name: the conf's name.

    Raises:
        DiskHlocError: no conf of ours has that name.
    """
    ours = packaged(kind)
    if name not in ours:
        raise DiskHlocError(f"no conf of {kind} is called {name!r}; known: {', '.join(ours)}")
    return ours[name]


def require_known_keys(given: Iterable[Any], known: Collection[str], where: str) -> None:
    """Check that a mapping has known keys only.

    Args:
        given: its keys.
        known: the keys that it may have.
        where: what the mapping is, for the error.

    Raises:
        DiskHlocError: a key is unknown; the error names the known key that is most like it.
    """
    for key in given:
        if key not in known:
            similar = difflib.get_close_matches(str(key), known, n=1)
            hint = f", did you mean {similar[0]!r}?" if similar else ""
            raise DiskHlocError(
                f"{where} has an unknown key {key!r}{hint} (known keys: {', '.join(known)})"
            )


class Value(NamedTuple):
    """What a key of a conf may be set to.

    Attributes:
        expected: in words, after "expected".
        accepts: whether a value may be.
    """

    expected: str
    accepts: Callable[[Any], bool]


def require_values(given: Mapping[str, Any], values: Mapping[str, Value], where: str) -> None:
    """Check the values of a mapping.

    Args:
        given: the mapping; keys that ``values`` does not have are not checked.
        values: what each key may be set to.
        where: what the mapping is, for the error.

    Raises:
        DiskHlocError: a value has another type or is out of range.
    """
    for key, value in given.items():
        if key in values and not values[key].accepts(value):
            raise DiskHlocError(
                f"{where} has {key}: {_shown(value)}, expected {values[key].expected}"
            )


def whole_number(least: int, odd: bool = False) -> Value:
    """An integer, ``least`` or more; True and False are not numbers."""

    def accepts(value: Any) -> bool:
        if not isinstance(value, Integral) or isinstance(value, bool):
            return False
        return int(value) >= least and (not odd or int(value) % 2 == 1)

    return Value(f"{'an odd' if odd else 'a whole'} number, {least} or more", accepts)


def number(least: float = -math.inf, most: float = math.inf) -> Value:
    """A finite number in a range that includes its ends; True and False are not numbers."""
    words = "a number"
    if math.isfinite(least) and math.isfinite(most):
        words += f" from {least:g} to {most:g}"
    elif math.isfinite(least):
        words += f", {least:g} or more"

    def accepts(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        return math.isfinite(value) and least <= float(value) <= most

    return Value(words, accepts)


def or_null(value: Value) -> Value:
    """What another value accepts, or nothing at all."""
    return Value(f"{value.expected}, or null", lambda given: given is None or value.accepts(given))


def one_of(*choices: str) -> Value:
    """One of some words."""
    return Value(f"one of {', '.join(choices)}", lambda value: value in choices)


TRUE_OR_FALSE = Value("true or false", lambda value: isinstance(value, bool))
NAME_OR_PATH = Value(
    "a name or a path", lambda value: isinstance(value, (str, os.PathLike)) and str(value) != ""
)


def _shown(value: Any) -> str:
    """A value as yaml has it, shortened."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return textwrap.shorten(repr(value), 60)
