"""Confs by name: ours, hloc's, or a user's yaml file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc import confs, models
from disk_hloc.confs import Conf, Value, number, require_known_keys, require_values
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import REQUIRED_KEYS, read_conf
from disk_hloc.io.loader import DEFAULT_PREPROCESSING, PREPROCESSING_VALUES

from .provider import find_provider
from .registration import hloc_confs

_NOUNS = {
    "extractors": "extractor",
    "matchers": "matcher",
    "global": "global descriptor",
    "dense": "dense matcher",
    "train": "training",
}
# Of hloc's confs, beside those that ours have.
_HLOC_KEYS = ("preprocessing", "cell_size", "max_error")


def find_conf(kind: str, name: str) -> Conf:
    """Return the conf of one name: ours, else hloc's where it is installed, else of a yaml file.

    Args:
        kind: ``extractors``, ``matchers``, ``dense`` (configs/dense.yaml), ``train``
            (configs/train.yaml) or ``global``; hloc's own global descriptors are extractors.
        name: a conf's name, or the path of a yaml file that holds one conf.

    Raises:
        DiskHlocError: there is no conf of that name (the message lists the known ones), or the
            file is not a conf, or has an unknown key or an impossible value.
    """
    ours = confs.packaged(kind)
    if name in ours:
        return ours[name]
    if name.endswith((".yaml", ".yml")):
        conf = read_conf(kind, Path(name))
        if kind != "train":  # whose sections are checked as they are merged
            _require_sound(kind, conf, name)
        return conf
    others = hloc_confs(kind)
    if name in others:
        return others[name]
    noun = _NOUNS[kind]
    known = f"known {noun}s: {', '.join(ours)}"
    if kind == "global":
        known += "; hloc's own (netvlad, ...) are extractors"
    elif find_provider():
        known += f"; through hloc: {', '.join(sorted(set(others) - set(ours)))}"
    else:
        known += "; more through hloc, which is not installed"
    if kind == "extractors" and "+" in name:
        known += "; only reconstruct, compare and eval eth mix several"
    raise DiskHlocError(f"no {noun} is called {name!r}; {known}; or give a .yaml file")


def _require_sound(kind: str, conf: Mapping[str, Any], path: str) -> None:
    """Check a user's conf: at the top level, and all of it where the model is ours."""
    values = _values_of_model(kind, conf["model"]["name"])
    top = REQUIRED_KEYS[kind]
    if values is None:
        top = tuple(dict.fromkeys(top + _HLOC_KEYS))
    require_known_keys(conf, top, f"the conf {path}")
    if values is None:
        return
    require_values(conf, {"cell_size": number(0.01)}, f"the conf {path}")
    where = f"model of the conf {path}"
    require_known_keys(conf["model"], ["name", *values], where)
    require_values(conf["model"], values, where)
    where = f"preprocessing of the conf {path}"
    preprocessing = conf.get("preprocessing", {})
    require_known_keys(preprocessing, DEFAULT_PREPROCESSING, where)
    require_values(preprocessing, PREPROCESSING_VALUES, where)


def _values_of_model(kind: str, name: str) -> Mapping[str, Value] | None:
    """Return the keys of a model of ours and what they may be; None if the model is hloc's."""
    if kind == "global":
        from disk_hloc.models import vlad

        return vlad.VALUES if name == "disk_vlad" else None
    if not models.has(kind, name):
        return None
    return models.load(kind, name).values()  # type: ignore[call-overload]
