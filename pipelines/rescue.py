"""Photos that a model lacks, tried again with SIFT."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pycolmap
from packaging.version import Version

from disk_hloc import parallel
from disk_hloc.errors import NoModel, UnreadableImages
from disk_hloc.io.colmap import DATABASE
from disk_hloc.io.hloc.pairs import read_pairs, write_pairs
from disk_hloc.io.replace import replace_text
from disk_hloc.log import logger
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match, rescue
from disk_hloc.stages.timing import timed

from .matching import Matched

# SIFT finds what is turned, and grass and leaves.
EXTRACTOR, MATCHER = "sift", "sift-ratio"


def main(
    image_dir: Path,
    output: Path,
    matched: Matched,
    failure: NoModel | None = None,
    *,
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    dask: str | None = None,
    **options: Any,
) -> bool:
    """Try the photos that ``sfm/`` lacks with other features, and add them to it.

    Args:
        image_dir: the photos.
        output: has ``sfm/``; gets ``rescue/`` with features, pairs and matches, if photos are
            missing.
        matched: what the model was built of.
        failure: why no model could be built.
        masks, overwrite, device, dask: see :func:`disk_hloc.pipelines.sfm.main`.
        options: those of :func:`disk_hloc.stages.rescue.main`.

    Returns:
        Whether photos were added.
    """
    if Version(pycolmap.__version__) < Version("3.13"):
        return False
    sfm_dir, folder = output / "sfm", output / "rescue"
    built: Path | None = sfm_dir
    database_path = sfm_dir / DATABASE
    if failure is not None:
        assert failure.database_path is not None
        built, database_path = None, failure.database_path
    pairs = rescue.choose_pairs(built, database_path, image_dir, read_pairs(matched.pairs))
    if not pairs:
        return False
    with timed(matched.seconds, "rescue"):
        names = sorted({name for pair in pairs for name in pair})
        logger.info("Photos are missing from the model: %d pairs are tried with SIFT", len(pairs))
        folder.mkdir(exist_ok=True)
        if failure is not None:  # it lies where a model is built
            database_path = Path(shutil.copy(database_path, folder / DATABASE))
        files = [folder / name for name in ("images.txt", "features.h5", "pairs.txt", "matches.h5")]
        images_path, features, pairs_path, matches = files
        replace_text(images_path, "".join(f"{name}\n" for name in names))
        write_pairs(pairs_path, pairs)
        extraction = extract.work(
            find_conf("extractors", EXTRACTOR), image_dir, features, image_list=images_path,
            masks=masks,
        )  # fmt: skip
        try:
            parallel.run(extraction, dask, overwrite=overwrite, device=device)
        except UnreadableImages as error:  # it changed meanwhile
            matched.unreadable.update(error.reasons)
            return False
        matching = match.work(find_conf("matchers", MATCHER), pairs_path, features, matches)
        parallel.run(matching, dask, overwrite=overwrite, device=device)
        return rescue.main(sfm_dir, database_path, image_dir, pairs, features, matches, **options)
