"""Confs in yaml files of the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError

from .names import require_relative
from .text import read_text

_NO_YAML = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    yaml.YAMLError,
)
# What each kind of conf must have.
REQUIRED_KEYS = {
    "extractors": ("output", "model", "preprocessing"),
    "matchers": ("output", "model"),
    "global": ("output", "model"),
    "dense": ("output", "model", "preprocessing", "cell_size"),
    "pairs": ("output", "model"),
    "train": ("model",),
}


def read_conf(kind: str, path: Path) -> Conf:
    """Read one conf from a yaml file of the user.

    Raises:
        DiskHlocError: the file does not exist, is not yaml, or has no value for a key of
            :data:`REQUIRED_KEYS`.
    """
    conf = read_yaml(path)
    required = REQUIRED_KEYS[kind]
    if not isinstance(conf, Mapping):
        raise DiskHlocError(f"{path} is not a conf: expected a mapping with {', '.join(required)}")
    missing = [key for key in required if key not in conf]
    if missing:
        raise DiskHlocError(f"the conf {path} has no {', '.join(missing)}")
    if not isinstance(conf.get("preprocessing", {}), Mapping):
        raise DiskHlocError(f"preprocessing of the conf {path} is not a mapping")
    if not isinstance(conf["model"], Mapping) or "name" not in conf["model"]:
        raise DiskHlocError(f"the conf {path} has no model: name")
    if "output" in conf:
        if not isinstance(conf["output"], str):
            raise DiskHlocError(f"output of the conf {path} is not a string: expected a file name")
        require_relative(conf["output"], f"output of the conf {path}")
    return dict(conf)


def read_yaml(path: Path) -> Any:
    """Read a yaml file of the user: numbers, strings, lists and mappings, never code.

    Raises:
        DiskHlocError: the file does not exist or is not yaml, or asks for a Python object.
    """
    try:
        return yaml.safe_load(read_text(path, "the conf"))
    # Brackets in brackets without end exhaust the stack; a date of month 13 is a ValueError.
    except _NO_YAML as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read the conf {path}: {reason}") from error


def conf_stem(name: str) -> str:
    """Return a conf's name as it stands in the names of files: of a yaml file, its stem."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name.replace("/", "_")
