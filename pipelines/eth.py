"""The ETH local feature benchmark: photos to a model, and its figures.

Schoenberger, Hardmeier, Sattler, Pollefeys, "Comparative evaluation of hand-crafted and learned
local features", CVPR 2017. A scene is a folder with ``images/`` and a ``database.db`` that has a
camera for each image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from disk_hloc.eval import known_poses
from disk_hloc.eval.model import summarize
from disk_hloc.io.colmap import read_cameras
from disk_hloc.io.hloc.pairs import require_plain_names
from disk_hloc.io.images import list_images
from disk_hloc.plugin import find_conf
from disk_hloc.report import tables as report
from disk_hloc.stages import extract, match, pairs, reconstruct


def main(
    folder: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str = "disk",
    device: str = "auto",
    verbose: bool = False,
) -> dict[str, Any]:
    """Reconstruct a scene from all its pairs, and write the benchmark's figures.

    Features and matches that are there already are kept, so a run that was stopped resumes.

    Args:
        folder: the scene. Cameras start from those of ``database.db``, which is only read; without
            it, from EXIF.
        output: gets ``features.h5``, ``pairs.txt``, ``matches.h5``, ``sfm/``, ``results.json`` and
            ``results.md``.
        extractor: a conf of configs/extractors.yaml, of hloc's, or a yaml file.
        matcher: likewise of configs/matchers.yaml.
        device: ``auto``, ``cpu``, ``cuda``, ...
        verbose: show COLMAP's own output.

    Returns:
        What ``results.json`` holds: ``figures`` (:func:`disk_hloc.eval.model.summarize`).

    Raises:
        DiskHlocError: whatever a stage says, or a database that is broken or lacks an image.
    """
    extractor_conf = find_conf("extractors", extractor)
    matcher_conf = find_conf("matchers", matcher)
    image_dir, database = folder / "images", folder / "database.db"
    names = list_images(image_dir)
    require_plain_names(names)
    cameras = read_cameras(database) if database.is_file() else None
    features, matches = output / "features.h5", output / "matches.h5"
    pairs_path = output / "pairs.txt"
    # The benchmark's figures are of all photos.
    extract.main(extractor_conf, image_dir, features, device=device, on_error="stop")
    pairs.exhaustive(names, pairs_path)
    match.main(matcher_conf, pairs_path, features, matches, device=device)
    model = reconstruct.main(
        output / "sfm", image_dir, pairs_path, features, matches, cameras=cameras,
        verbose=verbose,
    )  # fmt: skip
    results = {"figures": summarize(model, len(names))}
    lines = known_poses.table(results["figures"])
    report.write(output, "ETH local feature benchmark", results, lines, known_poses.NOTE)
    return results
