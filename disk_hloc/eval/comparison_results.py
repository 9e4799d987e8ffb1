"""The results of a comparison, which later runs resume: ``results.json`` and ``results.md``."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kornia
import pycolmap
import torch

import disk_hloc
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import run_settings
from disk_hloc.io.colmap import VERIFICATION
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.log import logger
from disk_hloc.report import tables

from . import comparison
from .estimators import THRESHOLD_PX, estimator
from .reference import Reference

# The setting that may change: rows then run again, and compute again what depends on it.
PHOTOS = "photos"


def settings(
    reference: Reference,
    pairs_path: Path,
    max_keypoints: int | None,
    model_options: Mapping[str, Any],
    device: str,
    photos: str,
) -> dict[str, Any]:
    """Return what the figures of every row depend on, and where they were measured.

    Args:
        reference: the photos, with what is known of their poses and cameras.
        pairs_path: the pairs of all rows.
        max_keypoints: keypoints of an image, for every row.
        model_options: the options of all reconstructions.
        device: where features are extracted and matched.
        photos: digest of the photos (:func:`disk_hloc.io.inputs.digest_of_photos`).
    """
    cameras = reference.camera
    if reference.cameras is not None:
        cameras = "one for each photo, from the calibration files"
    found = {
        "images": len(reference.names),
        PHOTOS: photos,
        "pairs": len(read_pairs(pairs_path)),
        "pairs_crc32": zlib.crc32(pairs_path.read_bytes()),
        "max_keypoints": max_keypoints,
        "cameras": cameras,
        "cameras_crc32": zlib.crc32(json.dumps(reference.cameras, sort_keys=True).encode()),
        **model_options,
        "verification": VERIFICATION,
        "poses": len(reference.poses),
        "poses_crc32": zlib.crc32(repr(sorted(reference.poses.items())).encode()),
        "stereo": f"{estimator()} at {THRESHOLD_PX} px",
        "device": device,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "versions": {
            "disk_hloc": disk_hloc.__version__,
            "kornia": kornia.__version__,
            "pycolmap": pycolmap.__version__,
            "torch": torch.__version__,
        },
    }
    return run_settings.as_stored(found)


def resume(
    output: Path, now: Mapping[str, Any], overwritten: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return the results that a run starts from.

    Args:
        output: the folder of the comparison.
        now: the settings of this run.
        overwritten: rows to run again; with any, former results with other settings are dropped.

    Returns:
        The results, and the former rows that were dropped.

    Raises:
        DiskHlocError: the former results have other settings, or their file is broken.
    """
    path = output / "results.json"
    results: dict[str, Any] = {"settings": dict(now), "rows": {}}
    if not path.is_file():
        return results, []
    try:
        former = json.loads(path.read_text(encoding="utf-8"))
        former_settings, former_rows = dict(former["settings"]), dict(former["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DiskHlocError(f"{path} cannot be read ({error}): remove it") from error
    # Earlier versions did not note it.
    former_settings.setdefault(PHOTOS, now[PHOTOS])
    if former_settings | {PHOTOS: now[PHOTOS]} == now and former_settings != now:
        logger.info("The photos have changed: all rows run again")
        return results, []
    if not overwritten:
        run_settings.require_same(path, former_settings, now, "drop all its rows")
    elif run_settings.differences(former_settings, now):
        return results, list(former_rows)
    results["rows"] = {
        name: {"reason": "stopped before it was done"} if name in overwritten else row
        for name, row in former_rows.items()
    }
    return results, []


def write(output: Path, results: Mapping[str, Any]) -> None:
    """Write the results; each file is whole or unchanged."""
    tables.write_results(output, results, comparison.markdown(results))
