"""Named configurations, read from configs/*.yaml in hloc's dict form."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from .errors import DiskHlocError
from .io.names import require_relative
from .io.text import read_text

Conf = dict[str, Any]

_NO_YAML = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    yaml.YAMLError,
)
_REQUIRED = {
    "extractors": ("output", "model", "preprocessing"),
    "matchers": ("output", "model"),
    "global": ("output", "model"),
    "dense": ("output", "model", "preprocessing", "cell_size"),
    "train": ("model",),
}
_NOUNS = {
    "extractors": "extractor",
    "matchers": "matcher",
    "global": "global descriptor",
    "dense": "dense matcher",
    "train": "training",
}


def extractors() -> dict[str, Conf]:
    """Our extractor confs, name -> ``{output, model, preprocessing}``. Fresh dicts each call."""
    return _packaged("extractors")


def matchers() -> dict[str, Conf]:
    """Our matcher confs, name -> ``{output, model}``. Fresh dicts each call."""
    return _packaged("matchers")


def global_descriptors() -> dict[str, Conf]:
    """Our confs of global descriptors, name -> ``{output, model}``. Fresh dicts each call."""
    return _packaged("global")


def find(kind: str, name: str) -> Conf:
    """The conf of one name: ours, else hloc's where hloc is found, else from a yaml file.

    Args:
        kind: ``extractors``, ``matchers``, ``dense`` (configs/dense.yaml), ``train``
            (configs/train.yaml) or ``global``; hloc's own global descriptors are extractors.
        name: a conf's name, or the path of a yaml file that holds one conf.

    Raises:
        DiskHlocError: no conf of that name (the message lists the known ones), or the file is
            no conf.
    """
    ours = _packaged(kind)
    if name in ours:
        return ours[name]
    if name.endswith((".yaml", ".yml")):
        return read(kind, Path(name))
    from .plugin import find_provider, hloc_confs

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
    raise DiskHlocError(f"no {noun} is called {name!r}; {known}; or give a .yaml file")


def read(kind: str, path: Path) -> Conf:
    """One conf from a yaml file of the user's.

    Raises:
        DiskHlocError: the file is missing, not yaml, or lacks a key that ``kind`` needs.
    """
    conf = read_yaml(path)
    if not isinstance(conf, Mapping):
        raise DiskHlocError(f"{path} holds no conf: a mapping with {', '.join(_REQUIRED[kind])}")
    missing = [key for key in _REQUIRED[kind] if key not in conf]
    if missing:
        raise DiskHlocError(f"the conf {path} lacks {', '.join(missing)}")
    if not isinstance(conf.get("preprocessing", {}), Mapping):
        raise DiskHlocError(f"preprocessing of the conf {path} is no mapping")
    if not isinstance(conf["model"], Mapping) or "name" not in conf["model"]:
        raise DiskHlocError(f"the conf {path} lacks model: name")
    if "output" in conf:
        if not isinstance(conf["output"], str):
            raise DiskHlocError(f"output of the conf {path} is no text: a name for its files")
        require_relative(conf["output"], f"output of the conf {path}")
    return dict(conf)


def read_yaml(path: Path) -> Any:
    """What a yaml file of the user's holds: numbers, texts, lists and mappings, never code.

    Raises:
        DiskHlocError: the file is missing or not yaml, or asks for an object of Python's.
    """
    try:
        return yaml.safe_load(read_text(path, "the conf"))
    # Brackets in brackets without end exhaust the stack; a date of month 13 is a ValueError.
    except _NO_YAML as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read the conf {path}: {reason}") from error


def _packaged(kind: str) -> dict[str, Conf]:
    text = resources.files("disk_hloc.configs").joinpath(f"{kind}.yaml").read_text("utf-8")
    confs: dict[str, Conf] = yaml.safe_load(text)
    return confs
