"""Whose code builds models and localizes: hloc's modules, or pycolmap directly (native)."""

from __future__ import annotations

from dataclasses import dataclass

import pycolmap
from packaging.version import InvalidVersion, Version

from disk_hloc.choices import ENGINES
from disk_hloc.errors import DiskHlocError
from disk_hloc.log import logger

from . import find_provider, import_provider


@dataclass(frozen=True)
class Verdict:
    """Whether an engine works here, and why."""

    works: bool
    reason: str


def hloc_verdict(stage: str) -> Verdict:
    """Tell whether hloc can be imported and is known to work with the installed pycolmap."""
    provider = find_provider()
    if provider is None:
        return Verdict(False, "hloc is not installed")
    version = _pycolmap_version()
    pair = f"{provider} with pycolmap {pycolmap.__version__}"
    if provider.startswith("imcui"):
        # An older fork, written for pycolmap 3.10: 3.11 renamed an argument of import_images.
        known = Version("3.10") <= version < Version("3.11")
    else:
        known = version >= Version("3.13")
    if not known:
        return Verdict(False, f"{pair} is not known to work")
    try:
        import_provider()
    except DiskHlocError as error:
        return Verdict(False, str(error))
    return Verdict(True, f"{pair} is known to work")


def native_verdict() -> Verdict:
    """Tell whether pycolmap is new enough for the native engine."""
    works = _pycolmap_version() >= Version("3.13")
    return Verdict(works, f"the native engine needs pycolmap 3.13 or newer, not {_installed()}")


def choose(requested: str, stage: str) -> str:
    """Return the engine for a stage, ``hloc`` or ``native``. The choice of ``auto`` is logged.

    Raises:
        DiskHlocError: the engine is unknown, or does not work here.
    """
    if requested not in ENGINES:
        raise DiskHlocError(f"no engine is called {requested!r}; known: {', '.join(ENGINES)}")
    hloc, native = hloc_verdict(stage), native_verdict()
    if requested == "native" and not native.works:
        raise DiskHlocError(native.reason)
    if requested == "hloc" and not hloc.works:
        if find_provider() is None:
            import_provider("the hloc engine")
        logger.warning("The hloc engine as asked for, though %s", hloc.reason)
    if requested != "auto":
        return requested
    if hloc.works:
        logger.info("Engine: hloc (%s)", hloc.reason)
        return "hloc"
    if native.works:
        logger.info("Engine: native (%s)", hloc.reason)
        return "native"
    raise DiskHlocError(f"no engine works here: {hloc.reason}, and {native.reason}")


def _pycolmap_version() -> Version:
    try:
        return Version(pycolmap.__version__)
    except InvalidVersion:
        # A development build is taken to be newer than any release.
        return Version("999")


def _installed() -> str:
    return str(pycolmap.__version__)
