"""Our named confs, configs/*.yaml, in hloc's dict form."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from importlib import resources
from typing import Any

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
