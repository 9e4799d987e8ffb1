"""A map to localize in: of photos, of a reconstruction, or of any COLMAP model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from disk_hloc import __version__, models, parallel
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.map_folder import SETTINGS, MapFolder, is_map, new_map
from disk_hloc.io.output_folder import claimed
from disk_hloc.io.store import require_conf
from disk_hloc.log import logger
from disk_hloc.plugin import Part, find_conf, find_parts
from disk_hloc.stages import describe, extract, index_map, match, pairs, triangulate
from disk_hloc.stages.turn import read_turns, turns_path

from . import extraction, model_summary, sfm
from .retrieval import VLAD

SFM = "sfm"
# What a reconstruction's output folder and a map share.
_FILES = ("features.h5", "pairs.txt", "matches.h5")


def main(
    source: Path,
    output: Path,
    *,
    images: Path | None = None,
    extractor: str = "disk",
    matcher: str | None = None,
    num_covis: int = 20,
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    dask: str | None = None,
    **reconstruction: Any,
) -> MapFolder:
    """Build a map (:mod:`disk_hloc.io.map_folder`). A run that was stopped resumes.

    Args:
        source: a folder of photos, which is reconstructed; or with ``images``, an output folder of
            ``disk-hloc reconstruct``, whose features and model are copied, or a COLMAP model made
            with any features, in whose poses ours are triangulated.
        output: the map.
        images: the photos of the reconstruction or model.
        extractor, matcher: confs of ours by their names; of a reconstruction, those it was made
            with.
        num_covis: how many pairs each photo of a COLMAP model has.
        masks: where keypoints may be.
        overwrite: replace a map, and start from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`), if others.
        reconstruction: options of :func:`disk_hloc.pipelines.sfm.main`, of a folder of photos.

    Returns:
        The map.

    Raises:
        DiskHlocError: there is a map already, features of several extractors or of hloc's are asked
            for, or as the stages.
    """
    part = _own_part(extractor, matcher)
    if is_map(output) and not overwrite:
        raise DiskHlocError(
            f"{output} is a map already: add photos with disk-hloc map add, or use --overwrite to "
            "build it from scratch"
        )
    (output / SETTINGS).unlink(missing_ok=True)
    found = find_conf("global", VLAD)
    made = new_map(output, part.extractor, part.matcher, found, __version__)
    common: dict[str, Any] = {"overwrite": overwrite, "device": device, "dask": dask}
    if images is None:
        sfm.main(
            source, output, extractor=extractor, matcher=matcher, masks=masks, **common,
            **reconstruction,
        )  # fmt: skip
    with claimed(output, source, images):
        if images is not None and (source / "features.h5").is_file():
            _copy(source, made)
        elif images is not None:
            _triangulated(source, images, made, num_covis, masks, common)
        return _finish(made, images or source, masks)


def _own_part(extractor: str, matcher: str | None) -> Part:
    """Return the confs of a map, whose models answer queries in this process."""
    parts = find_parts(extractor, matcher)
    if len(parts) > 1:
        raise DiskHlocError(
            f"a map has the features of one extractor, and --extractor {extractor} names "
            f"{len(parts)}"
        )
    for kind, conf in (("extractors", parts[0].extractor), ("matchers", parts[0].matcher)):
        if not models.has(kind, conf["model"]["name"]):
            raise DiskHlocError(
                f"{conf['model']['name']} runs through hloc, from file to file, so a map of it "
                f"could not answer: use one of disk_hloc's {kind}"
            )
    return parts[0]


def _copy(source: Path, made: MapFolder) -> None:
    """Take over the files of a reconstruction, in metres if it is georeferenced."""
    advice = "give the same --extractor and --matcher"
    require_conf(source / "features.h5", extract.made_with(made.extractor), advice)
    require_conf(source / "matches.h5", match.made_with(made.matcher), advice)
    for name in _FILES:
        shutil.copy2(source / name, made.path / name)
    turned = turns_path(source / "features.h5")
    if turned.exists():
        shutil.copy2(turned, turns_path(made.features))
    with colmap.building(made.path / SFM) as folder:
        colmap.write_model(colmap.read_model(source / SFM), folder)
        colmap.copy_database(source / SFM / colmap.DATABASE, folder / colmap.DATABASE)
    metric = source / model_summary.GEOREFERENCED
    if (metric / "images.bin").is_file():
        with colmap.building(made.path / model_summary.GEOREFERENCED) as folder:
            colmap.write_model(colmap.read_model(metric), folder)
            shutil.copy2(metric / colmap.GEOREFERENCE, folder)


def _triangulated(
    reference: Path,
    images: Path,
    made: MapFolder,
    num_covis: int,
    masks: Mapping[str, Any] | None,
    common: Mapping[str, Any],
) -> None:
    """Extract and match the photos of a model, and triangulate them in its poses."""
    model = colmap.read_model(reference)
    names = sorted(image.name for image in colmap.registered_images(model))
    listed = made.path / "images.txt"
    listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    extraction.main(made.extractor, images, made.features, image_list=listed, masks=masks, **common)
    method = "covisibility" if model.num_points3D() else "poses"
    pairs.main(method, reference, made.pairs, num_matched=num_covis)
    matching = match.work(made.matcher, made.pairs, made.features, made.matches)
    parallel.run(matching, common["dask"], overwrite=common["overwrite"], device=common["device"])
    triangulate.main(
        made.path / SFM, reference, images, made.pairs, made.features, made.matches, engine="native"
    )


def _finish(made: MapFolder, images: Path, masks: Mapping[str, Any] | None) -> MapFolder:
    """Describe the photos, write the index, and make the model that of the map."""
    describe.main(made.retrieval, made.features, made.global_descriptors, relearn=True)
    turns = {name: degrees // 90 for name, degrees in read_turns(made.features).items()}
    metric = made.path / model_summary.GEOREFERENCED
    built = made.path / SFM
    if metric.is_dir():
        colmap.copy_database(built / colmap.DATABASE, metric / colmap.DATABASE)
        built = metric
    index = index_map.main(replace(made, model_name=built.name), images, turns=turns, masks=masks)
    made.remove_other_models()
    if made.model.exists():  # of a run that was killed before it was the map's
        shutil.rmtree(made.model)
    built.rename(made.model)
    made.commit()
    colmap.remove_model(made.path / SFM)
    logger.info("Map of %d photos and %d points in %s", len(index.names), len(index.xyz), made.path)
    return made
