"""Models that exist already, taken over into the folder of a map."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc import parallel
from disk_hloc.errors import DiskHlocError, UnreadableImages
from disk_hloc.io import colmap
from disk_hloc.io.hloc.global_features import codebook_path
from disk_hloc.io.map_folder import MapFolder
from disk_hloc.io.model_folders import GEOREFERENCED, SFM
from disk_hloc.io.replace import replace_text
from disk_hloc.io.store import require_conf
from disk_hloc.log import logger
from disk_hloc.stages import describe, extract, match, pairs, triangulate
from disk_hloc.stages.turn import turns_path

from . import extraction

# What a reconstruction's output folder and a map share.
_FILES = ("features.h5", "pairs.txt", "matches.h5")


def is_reconstruction(source: Path) -> bool:
    """Return whether a folder is one that ``disk-hloc reconstruct`` wrote, not a COLMAP model."""
    return (source / SFM).is_dir() and (source / "features.h5").is_file()


def copy(source: Path, made: MapFolder) -> None:
    """Take over the files of a reconstruction, in metres if it is georeferenced.

    Args:
        source: the output folder of ``disk-hloc reconstruct``.
        made: the map, which gets features, pairs, matches, and the model in ``sfm/``.

    Raises:
        DiskHlocError: it was made with other confs, or has no model.
    """
    advice = "give the same --extractor and --matcher"
    require_conf(source / "features.h5", extract.made_with(made.extractor), advice)
    require_conf(source / "matches.h5", match.made_with(made.matcher), advice)
    for name in _FILES:
        shutil.copy2(source / name, made.path / name)
    turned = turns_path(source / "features.h5")
    if turned.exists():
        shutil.copy2(turned, turns_path(made.features))
    with colmap.building(made.path / SFM) as folder:
        colmap.write_model(colmap.read_model(largest(source / SFM)), folder)
        colmap.copy_database(source / SFM / colmap.DATABASE, folder / colmap.DATABASE)
    metric = source / GEOREFERENCED
    if (metric / "images.bin").is_file():
        with colmap.building(made.path / GEOREFERENCED) as folder:
            colmap.write_model(colmap.read_model(metric), folder)
            shutil.copy2(metric / colmap.GEOREFERENCE, folder)


def triangulated(
    reference: Path,
    images: Path,
    made: MapFolder,
    *,
    num_covis: int,
    turn: str,
    masks: Mapping[str, Any] | None,
    on_error: str,
    verbose: bool,
    **run: Any,
) -> None:
    """Extract and match the photos of a model, and triangulate them in its poses.

    Args:
        reference: a COLMAP model.
        images: its photos.
        made: the map, which gets features, pairs, matches, and the model in ``sfm/``.
        num_covis, turn, masks, on_error, verbose: see :func:`disk_hloc.pipelines.map_build.main`.
        run: ``overwrite``, ``device`` and ``dask``, see there.

    Raises:
        DiskHlocError: there is no such model, a photo of it cannot be read, or as the stages.
    """
    reference = largest(reference)
    model = colmap.read_model(reference)
    names = sorted(image.name for image in colmap.registered_images(model))
    listed = made.path / "images.txt"
    replace_text(listed, "".join(f"{name}\n" for name in names))
    try:
        extraction.main(
            made.extractor, images, made.features,
            turn=turn, image_list=listed, masks=masks, on_error=on_error, **run,
        )  # fmt: skip
    except UnreadableImages as error:
        raise DiskHlocError(
            f"{error} Or remove them from the model {reference}: each of its photos is needed."
        ) from error
    method = "covisibility" if model.num_points3D() else "poses"
    pairs.main(method, reference, made.pairs, num_matched=num_covis)
    matching = match.work(made.matcher, made.pairs, made.features, made.matches)
    parallel.run(matching, run["dask"], overwrite=run["overwrite"], device=run["device"])
    triangulate.main(
        made.path / SFM, reference, images, made.pairs, made.features, made.matches,
        engine="native", verbose=verbose,
    )  # fmt: skip


def largest(folder: Path) -> Path:
    """Return where the largest of a folder's models is: there, or in ``0/``, ``1/``, ....

    A warning says how many photos the other models have that it lacks.
    """
    numbered = [path for path in folder.glob("*") if path.name.isdigit() and path.is_dir()]
    models = {path: colmap.read_model(path) for path in numbered}
    if not models:
        return folder
    best = max(models, key=lambda path: models[path].num_reg_images())
    seen = colmap.seeing_points(models[best])
    others = set().union(*map(colmap.seeing_points, models.values())) - seen
    if others:
        logger.warning(
            "%s has %d models that share too little to be one: the map is of the largest, of %d "
            "photos, and %d photos of the others are left out",
            folder, len(models), len(seen), len(others),
        )  # fmt: skip
    return best


def describe_photos(made: MapFolder) -> None:
    """Describe the photos of a map, unless their pairs were retrieved by the same descriptors."""
    described = made.path / f"{made.retrieval['output']}.h5"
    if described.is_file():
        codebook_path(described).replace(codebook_path(made.global_descriptors))
        described.replace(made.global_descriptors)
    describe.main(made.retrieval, made.features, made.global_descriptors, relearn=True)
