"""Confs in yaml files of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from disk_hloc.confs import Conf
from disk_hloc.errors import PARSER_ERRORS, DiskHlocError

from .names import require_relative
from .text import read_text

_REQUIRED = {
    "extractors": ("output", "model", "preprocessing"),
    "matchers": ("output", "model"),
    "global": ("output", "model"),
    "dense": ("output", "model", "preprocessing", "cell_size"),
    "train": ("model",),
}


def read_conf(kind: str, path: Path) -> Conf:
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
    except (*PARSER_ERRORS, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read the conf {path}: {reason}") from error


def conf_stem(name: str) -> str:
    """Return a conf's name as it stands in the names of files: of a yaml file, its stem."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name.replace("/", "_")
