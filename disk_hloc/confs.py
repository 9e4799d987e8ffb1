"""Our named confs: configs/*.yaml, in hloc's dict form."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

Conf = dict[str, Any]


def extractors() -> dict[str, Conf]:
    """Our extractor confs, name -> ``{output, model, preprocessing}``. Fresh dicts each call."""
    return packaged("extractors")


def matchers() -> dict[str, Conf]:
    """Our matcher confs, name -> ``{output, model}``. Fresh dicts each call."""
    return packaged("matchers")


def global_descriptors() -> dict[str, Conf]:
    """Our confs of global descriptors, name -> ``{output, model}``. Fresh dicts each call."""
    return packaged("global")


def packaged(kind: str) -> dict[str, Conf]:
    """The confs of configs/``kind``.yaml by name. Fresh dicts each call."""
    text = resources.files("disk_hloc.configs").joinpath(f"{kind}.yaml").read_text("utf-8")
    confs: dict[str, Conf] = yaml.safe_load(text)
    return confs
