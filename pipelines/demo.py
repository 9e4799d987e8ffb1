"""From a synthetic room with known poses to a COLMAP model, and how exact the result is.

A board is carried through the room in front of the camera. The photos are reconstructed twice: with
masks of the board, and without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.output_folder import one_run
from disk_hloc.io.replace import replace_json
from disk_hloc.log import logger
from disk_hloc.report.model_picture import model_overview
from disk_hloc.synthetic_room import billboard, write_scene

from . import reporting, sfm

# Fewer keypoints than the default: the room is small, and two models are built.
EXTRACTOR = "disk-2k"
COMMAND = "disk-hloc demo"


@one_run("output")
def main(output: Path, *, overwrite: bool = False, device: str = "auto") -> dict[str, Any]:
    """Draw the scene, reconstruct it with its known camera, compare with the known poses.

    Args:
        output: gets ``scene/`` (photos, ``masks/``, ``camera.txt``, ``poses.txt``), what
            :func:`disk_hloc.pipelines.sfm.main` writes in ``with_masks/`` and ``without_masks/``,
            ``demo.json``, what is returned, and of the masked model ``demo.png``, a picture, and
            ``with_masks/report.html``.
        overwrite: draw, extract and match from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``with masks`` and ``without masks`` -> the figures of
        :func:`disk_hloc.pipelines.sfm.main`, ``position_error_mm`` and ``rotation_error_deg``,
        each with ``mean`` and ``max`` over the registered images (None without a model to align).

    Raises:
        DiskHlocError: scikit-image is missing, or as the stages.
    """
    scene = output / "scene"
    if overwrite or not (scene / "poses.txt").exists():
        logger.info("Drawing the scene in %s", scene)
        write_scene(scene, moving=billboard, masks_of=("billboard",))
    masks = {"folder": scene / "masks"}
    report = {
        "with masks": _reconstruct(scene, output / "with_masks", masks, overwrite, device),
        "without masks": _reconstruct(scene, output / "without_masks", None, overwrite, device),
    }
    replace_json(output / "demo.json", report)
    model = pycolmap.Reconstruction(output / "with_masks" / "sfm")
    picture = model_overview(model, scene / "images", output / "demo.png")
    page = reporting.main(output / "with_masks", scene / "images", masks=masks, command=COMMAND)
    logger.info("The model with masks: %s, and a picture, %s", page, picture)
    return report


def _reconstruct(
    scene: Path, output: Path, masks: dict[str, Any] | None, overwrite: bool, device: str
) -> dict[str, Any]:
    model_name, _, _, parameters = read_camera(scene / "camera.txt")
    report = sfm.main(
        scene / "images",
        output,
        extractor=EXTRACTOR,
        masks=masks,
        camera=f"{model_name} {','.join(str(value) for value in parameters)}",
        fix_intrinsics=True,
        overwrite=overwrite,
        device=device,
    )
    try:
        errors = pose_errors(
            pycolmap.Reconstruction(output / "sfm"), read_poses(scene / "poses.txt")
        )
    except DiskHlocError as error:
        logger.warning("%s: %s", output, error)
        report["position_error_mm"] = report["rotation_error_deg"] = None
        return report
    report["position_error_mm"] = _mean_and_max(1000 * errors.position)
    report["rotation_error_deg"] = _mean_and_max(errors.rotation)
    return report


def _mean_and_max(values: np.ndarray) -> dict[str, float]:
    return {"mean": round(float(values.mean()), 3), "max": round(float(values.max()), 3)}
