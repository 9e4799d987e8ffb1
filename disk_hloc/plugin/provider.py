"""The package that has hloc."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from disk_hloc.errors import DiskHlocError

ENVIRONMENT_VARIABLE = "DISK_HLOC_PROVIDER"
PROVIDERS = ("hloc", "imcui.hloc")


def find_provider() -> str | None:
    """Return the name of the package that has hloc, or None.

    Raises:
        DiskHlocError: ``DISK_HLOC_PROVIDER`` names a package that does not exist or is not hloc.
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

    Args:
        needed_for: what needs it, for the error.

    Raises:
        DiskHlocError: hloc was not found, or cannot be imported.
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
        raise DiskHlocError(f"{provider} was found but cannot be imported: {error}") from error


def _is_hloc(provider: str) -> bool:
    try:
        spec = importlib.util.find_spec(provider)
    except ImportError:
        return False
    locations = (spec.submodule_search_locations or []) if spec else []
    return any((Path(location) / "extract_features.py").is_file() for location in locations)


def _import_quietly(provider: str) -> ModuleType:
    """Import hloc. imcui's empties ``log.txt`` in the current folder, so not from there."""
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
