"""The networks and matchers, found by the names of their files.

A conf's ``model: {name: ...}`` is the name of a file in the folder of its kind: ``extractors``,
``matchers`` (of keypoints and descriptors) or ``dense`` (matchers of two photos). Models know
nothing of files but their own weights. Nothing is imported before it is loaded.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from .base import DenseMatcher, Extractor, Matcher, Model

Kind = Literal["extractors", "matchers", "dense"]


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of our models of a kind, sorted; none of a kind that has no models."""
    folder = Path(__file__).parent / kind
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(folder)])))


def has(kind: str, name: str) -> bool:
    """Return whether a model is ours; any other is hloc's."""
    return name in names(kind)


@overload
def load(kind: Literal["extractors"], name: str) -> type[Extractor]: ...
@overload
def load(kind: Literal["matchers"], name: str) -> type[Matcher]: ...
@overload
def load(kind: Literal["dense"], name: str) -> type[DenseMatcher]: ...
@overload
def load(kind: Kind, name: str) -> type[Model]: ...
def load(kind: Kind, name: str) -> type[Model]:
    """Import a model's file and return the one model that it defines.

    Args:
        kind: ``extractors``, ``matchers`` or ``dense``.
        name: one of :func:`names`.
    """
    from .base import Model

    module = importlib.import_module(f"{__name__}.{kind}.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Model)
        and value.__module__ == module.__name__
    )
    return found
