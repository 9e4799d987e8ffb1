"""A synthetic room with known poses through the main job, and how exact the result is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc import draw
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.poses import read_camera, read_poses
from disk_hloc.log import logger
from disk_hloc.pipelines import sfm
from disk_hloc.scene import write_scene


def main(output: Path, *, overwrite: bool = False, device: str = "auto") -> dict[str, Any]:
    """Draw the scene, reconstruct it with its camera known, compare with the truth.

    Args:
        output: gets ``scene/`` (photos, ``camera.txt``, ``poses.txt``), what
            :func:`disk_hloc.pipelines.sfm.main` writes, and ``demo.png``, a picture of the result.
        overwrite: draw and extract anew.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        The figures of :func:`disk_hloc.pipelines.sfm.main`; ``position_error_mm`` and
        ``rotation_error_deg``, each with ``mean`` and ``max`` over the registered images.

    Raises:
        DiskHlocError: scikit-image is missing, or whatever a stage says.
    """
    scene = output / "scene"
    if overwrite:
        shutil.rmtree(scene, ignore_errors=True)
    if not (scene / "poses.txt").exists():
        logger.info("Drawing the scene in %s", scene)
        write_scene(scene)
    model_name, _, _, parameters = read_camera(scene / "camera.txt")
    report = sfm.main(
        scene / "images",
        output,
        camera=f"{model_name} {','.join(str(value) for value in parameters)}",
        fix_intrinsics=True,
        overwrite=overwrite,
        device=device,
    )
    model = pycolmap.Reconstruction(output / "sfm")
    errors = pose_errors(model, read_poses(scene / "poses.txt"))
    report["position_error_mm"] = _mean_and_max(1000 * errors.position)
    report["rotation_error_deg"] = _mean_and_max(errors.rotation)
    picture = draw.model_overview(model, scene / "images", output / "demo.png")
    logger.info("A picture of the model: %s", picture)
    return report


def _mean_and_max(values: np.ndarray) -> dict[str, float]:
    return {"mean": round(float(values.mean()), 4), "max": round(float(values.max()), 4)}
