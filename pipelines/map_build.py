"""A map to localize in: of photos, of a reconstruction, or of any COLMAP model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from disk_hloc import __version__, models
from disk_hloc.errors import DiskHlocError, SkippedImages, listing, skipped
from disk_hloc.io import colmap
from disk_hloc.io.map_folder import SETTINGS, MapFolder, is_map, new_map
from disk_hloc.io.model_folders import GEOREFERENCED, SFM
from disk_hloc.io.output_folder import claimed
from disk_hloc.log import logger
from disk_hloc.plugin import Part, find_conf, find_parts
from disk_hloc.stages import extract, index_map
from disk_hloc.stages import georeference as georeferencing
from disk_hloc.stages.turn import read_turns

from . import map_source, sfm
from .retrieval import VLAD


def main(
    source: Path,
    output: Path,
    *,
    images: Path | None = None,
    extractor: str = "disk",
    matcher: str | None = None,
    num_covis: int | None = 20,
    turn: str = "auto",
    masks: Mapping[str, Any] | None = None,
    georeference: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
    verbose: bool = False,
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
        georeference: bring the map to metres by the GPS positions of the photos
            (:mod:`disk_hloc.stages.georeference`). A reconstruction that was, stays so.
        turn, masks, device, on_error, dask, verbose: see :func:`disk_hloc.pipelines.sfm.main`.
        overwrite: replace a map, and start from scratch.
        reconstruction: more options of :func:`disk_hloc.pipelines.sfm.main`, of a folder of photos.

    Returns:
        The map.

    Raises:
        SkippedImages: some photos cannot be read; the map is of the others.
        DiskHlocError: there is a map already, features of several extractors or of hloc's are asked
            for, or as the stages.
    """
    part = _own_part(extractor, matcher)
    extract.chosen_images(images or source, masks=masks)  # a wrong folder is reported first
    if is_map(output) and not overwrite:
        raise DiskHlocError(
            f"{output} is a map already: add photos with disk-hloc map add, or use --overwrite to "
            "build it from scratch"
        )
    with claimed(output, source, images):
        (output / SETTINGS).unlink(missing_ok=True)
    found = find_conf("global", VLAD)
    made = new_map(output, part.extractor, part.matcher, found, __version__)
    run: dict[str, Any] = {"overwrite": overwrite, "device": device, "dask": dask}
    unreadable: dict[str, str] = {}
    if images is None:
        summary = sfm.main(
            source, output, extractor=extractor, matcher=matcher, turn=turn, masks=masks,
            georeference=georeference, on_error=on_error, verbose=verbose, **run, **reconstruction,
        )  # fmt: skip
        unreadable = summary["unreadable"]
        if summary["missing"]:
            logger.warning(
                "%d photos are not in the map, %s says why: %s",
                len(summary["missing"]), output / "summary.json", listing(list(summary["missing"])),
            )  # fmt: skip
    with claimed(output, source, images):
        if images is None:
            map_source.largest(output / SFM)  # says what is left out
        elif map_source.is_reconstruction(source):
            map_source.copy(source, made)
        else:
            map_source.triangulated(
                source, images, made, num_covis=num_covis or 20, turn=turn, masks=masks,
                on_error=on_error, verbose=verbose, **run,
            )  # fmt: skip
        metric = output / GEOREFERENCED
        if images is not None and georeference and not metric.is_dir():
            georeferencing.main(output / SFM, images, metric)
        _finish(made, images or source, masks)
    if unreadable:
        raise SkippedImages(skipped(unreadable))
    return made


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


def _finish(made: MapFolder, images: Path, masks: Mapping[str, Any] | None) -> None:
    """Describe the photos, write the index, and make the model that of the map."""
    map_source.describe_photos(made)
    turns = {name: degrees // 90 for name, degrees in read_turns(made.features).items()}
    metric = made.path / GEOREFERENCED
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
