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
from disk_hloc.io.output_folder import one_run
from disk_hloc.report import tables
from disk_hloc.stages import reconstruct

from . import matching


@one_run("output", "folder")
def main(
    folder: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str | None = None,
    device: str = "auto",
    verbose: bool = False,
    dask: str | None = None,
) -> dict[str, Any]:
    """Reconstruct a scene from all its pairs, and write the benchmark's figures.

    Existing features and matches are kept, so a run that was stopped resumes.

    Args:
        folder: the scene. Cameras start from those of ``database.db``, which is not changed;
            without it, from EXIF.
        output: gets ``features.h5``, ``pairs.txt``, ``matches.h5``, ``sfm/``, ``results.json`` and
            ``results.md``.
        extractor, matcher: as of :func:`disk_hloc.pipelines.sfm.main`.
        device: ``auto``, ``cpu``, ``cuda``, ...
        verbose: show COLMAP's own output.
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.

    Returns:
        What ``results.json`` holds: ``figures`` (:func:`disk_hloc.eval.model.summarize`).

    Raises:
        DiskHlocError: as the stages, or the database is broken or an image is missing from it.
    """
    image_dir, database = folder / "images", folder / "database.db"
    cameras = read_cameras(database) if database.is_file() else None
    # The benchmark's figures are of all photos as they are stored: one that cannot be read ends
    # the run, and none is turned.
    matched = matching.main(
        image_dir, output, extractor=extractor, matcher=matcher, pairs_from="exhaustive",
        turn="none", device=device, on_error="stop", dask=dask,
    )  # fmt: skip
    model = reconstruct.main(
        output / "sfm", image_dir, matched.pairs, matched.features, matched.matches,
        cameras=cameras, verbose=verbose,
    )  # fmt: skip
    results = {"figures": summarize(model, len(matched.images))}
    lines = known_poses.table(results["figures"])
    tables.write(output, "ETH local feature benchmark", results, lines, known_poses.NOTE)
    return results
