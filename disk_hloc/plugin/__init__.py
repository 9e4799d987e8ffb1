"""hloc: where it is, and DISK in it.

hloc is looked for as ``hloc`` (from git) and then as ``imcui.hloc`` (the copy in the PyPI package
imcui); the environment variable ``DISK_HLOC_PROVIDER`` names another package, or the one to take.

hloc loads the model ``disk`` by importing ``hloc.extractors.disk``. :func:`register` puts a folder
of ours before hloc's own on the search path of ``hloc.extractors`` and of ``hloc.matchers``, so
that this import finds our file; it becomes a module of hloc's, and no function of hloc is patched.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from disk_hloc import confs
from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import read_conf

ENVIRONMENT_VARIABLE = "DISK_HLOC_PROVIDER"
PROVIDERS = ("hloc", "imcui.hloc")

_FOLDER = Path(__file__).parent
# Kind of conf -> the module of hloc that runs it, and our models by the names hloc loads.
_MODULES = {
    "extractors": "extract_features",
    "matchers": "match_features",
    "dense": "match_dense",
}
_NOUNS = {
    "extractors": "extractor",
    "matchers": "matcher",
    "global": "global descriptor",
    "dense": "dense matcher",
    "train": "training",
}
_MODELS = {"extractors": ("disk",), "matchers": ("disk", "disk_lightglue")}


def find_conf(kind: str, name: str) -> Conf:
    """The conf of one name: ours, else hloc's where hloc is found, else from a yaml file.

    Args:
        kind: ``extractors``, ``matchers``, ``dense`` (configs/dense.yaml), ``train``
            (configs/train.yaml) or ``global``; hloc's own global descriptors are extractors.
        name: a conf's name, or the path of a yaml file that holds one conf.

    Raises:
        DiskHlocError: no conf of that name (the message lists the known ones), or the file is
            no conf.
    """
    ours = confs.packaged(kind)
    if name in ours:
        return ours[name]
    if name.endswith((".yaml", ".yml")):
        return read_conf(kind, Path(name))
    from disk_hloc.plugin import find_provider, hloc_confs

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


def find_provider() -> str | None:
    """The name of the package that hloc is found under, or None.

    Raises:
        DiskHlocError: ``DISK_HLOC_PROVIDER`` names a package that is not there or not hloc.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        if not _is_hloc(named):
            raise DiskHlocError(
                f"{ENVIRONMENT_VARIABLE} is {named!r}, but there is no hloc under that name: "
                f"unset it, or set it to one of {', '.join(PROVIDERS)}"
            )
        return named
    return next((provider for provider in PROVIDERS if _is_hloc(provider)), None)


def import_provider(needed_for: str = "this") -> ModuleType:
    """Import hloc.

    Raises:
        DiskHlocError: there is none, or it does not import.
    """
    provider = find_provider()
    if provider is None:
        raise DiskHlocError(
            f"{needed_for} needs hloc, which was found neither as `hloc` nor as `imcui.hloc`: "
            "pip install git+https://github.com/cvg/Hierarchical-Localization"
        )
    try:
        return _import_quietly(provider)
    except ImportError as error:
        raise DiskHlocError(f"{provider} was found but does not import: {error}") from error


def hloc_module(name: str, needed_for: str = "this") -> ModuleType:
    """A module of hloc with DISK registered: ``hloc_module("extract_features")``.

    Raises:
        DiskHlocError: hloc is missing or the module does not import.
    """
    provider = import_provider(needed_for)
    _register(provider.__name__)
    try:
        return importlib.import_module(f"{provider.__name__}.{name}")
    except ImportError as error:
        raise DiskHlocError(f"{provider.__name__}.{name} does not import: {error}") from error


def hloc_confs(kind: str) -> dict[str, Any]:
    """hloc's confs, ours among them, of a kind; {} without hloc, and of kinds it does not have.

    Args:
        kind: ``extractors``, ``matchers`` or ``dense``.

    Raises:
        DiskHlocError: hloc is there but does not import.
    """
    if kind not in _MODULES or find_provider() is None:
        return {}
    found: dict[str, Any] = deepcopy(hloc_module(_MODULES[kind]).confs)
    return found


def register() -> ModuleType:
    """Add DISK to hloc; see :func:`disk_hloc.register`."""
    provider = import_provider("disk_hloc.register()")
    _register(provider.__name__)
    return provider


@cache
def _register(provider: str) -> None:
    for kind, models in _MODELS.items():
        package = importlib.import_module(f"{provider}.{kind}")
        package.__path__.insert(0, str(_FOLDER / kind))
        # A module of the same name may have been loaded from hloc's own folder before.
        for model in models:
            sys.modules.pop(f"{provider}.{kind}.{model}", None)
            if hasattr(package, model):
                delattr(package, model)
        importlib.invalidate_caches()
        theirs = importlib.import_module(f"{provider}.{_MODULES[kind]}").confs
        for name, conf in getattr(confs, kind)().items():
            if conf["model"]["name"] not in models:
                continue  # a model that hloc's own loop could not find
            if kind == "extractors" and name == "disk" and name in theirs:
                continue  # hloc's own conf stands, with our model under it
            theirs[name] = conf


def _is_hloc(provider: str) -> bool:
    try:
        spec = importlib.util.find_spec(provider)
    except ImportError:
        return False
    locations = (spec.submodule_search_locations or []) if spec else []
    return any((Path(location) / "extract_features.py").is_file() for location in locations)


def _import_quietly(provider: str) -> ModuleType:
    """Import hloc; imcui's, which empties ``log.txt`` in the current folder, from another one."""
    if provider in sys.modules:
        return sys.modules[provider]
    spec = importlib.util.find_spec(provider)
    origin = spec.origin if spec else None
    if origin is None or "log.txt" not in Path(origin).read_text(encoding="utf-8"):
        return importlib.import_module(provider)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            module = importlib.import_module(provider)
        finally:
            os.chdir(here)
        for handler in list(logging.getLogger("hloc").handlers):
            if isinstance(handler, logging.FileHandler):
                logging.getLogger("hloc").removeHandler(handler)
                handler.close()
    return module
