"""New photos in a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disk_hloc import device as devices
from disk_hloc import parallel
from disk_hloc.errors import DiskHlocError, UnreadableImages
from disk_hloc.io.hloc.pairs import Pair, read_pairs, write_pairs
from disk_hloc.io.map_folder import MapFolder, read_map
from disk_hloc.io.map_index import MapIndex, read_index
from disk_hloc.io.output_folder import claimed
from disk_hloc.io.replace import replace_text
from disk_hloc.io.store import writing
from disk_hloc.io.text import require_listable
from disk_hloc.log import logger
from disk_hloc.models.turn_votes import Oriented
from disk_hloc.stages import describe, extract, grow_map, index_map, match, new_photos
from disk_hloc.stages import turn as turning


def main(
    folder: Path,
    image_dir: Path,
    *,
    camera: str | None = None,
    fix_intrinsics: bool = False,
    num_matched: int = 20,
    masks: Mapping[str, Any] | None = None,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Register new photos in a map; poses of its photos stay, and so does the map if this fails.

    A run that was killed leaves the map as it was, and the same call resumes. Localizers may read
    the map meanwhile.

    Args:
        folder: the map.
        image_dir: the photos; those that the map has already are skipped.
        camera: COLMAP's model and parameters in pixels, ``"PINHOLE fx,fy,cx,cy"``, of all new
            photos. Without it, photos share the camera of those of the map that the same device
            took; the others' is as of :func:`disk_hloc.stages.reconstruct.main`.
        fix_intrinsics: keep the parameters of new cameras. Those of the map always stay.
        num_matched: with how many photos of the map each new one is matched.
        masks: where keypoints may be.
        device, on_error, dask, verbose: see :func:`disk_hloc.pipelines.sfm.main`.

    Returns:
        Photos that were ``added``, those ``skipped`` as the map has them, and ``missing`` and
        ``unreadable`` ones, each with the reason.

    Raises:
        DiskHlocError: there is no map, a photo is another one than that of its name in the map,
            none could be registered, or as the stages.
    """
    read_map(folder)  # a wrong folder is reported first
    if folder.resolve() in [image_dir.resolve(), *image_dir.resolve().parents]:
        raise DiskHlocError(f"{image_dir} is in the map {folder}: give the photos' own folder")
    if dask is None:
        devices.resolve(device)
    chosen = extract.chosen_images(image_dir, masks=masks)
    require_listable(chosen)
    with claimed(folder, image_dir):
        made = read_map(folder)
        new_photos.tidy(made)
        index = read_index(made.index)
        names = new_photos.unknown(made, index, image_dir, chosen)
        skipped = sorted(set(chosen).difference(names))
        report: dict[str, Any] = {"added": [], "skipped": skipped, "missing": {}, "unreadable": {}}
        if not names:
            return report
        try:
            _add(made, index, image_dir, names, report, camera=camera,
                 fix_intrinsics=fix_intrinsics, num_matched=num_matched, masks=masks,
                 device=device, on_error=on_error, dask=dask, verbose=verbose)  # fmt: skip
        finally:
            new_photos.tidy(read_map(folder))
    return report


def _add(
    made: MapFolder,
    index: MapIndex,
    image_dir: Path,
    names: list[str],
    report: dict[str, Any],
    *,
    num_matched: int,
    masks: Mapping[str, Any] | None,
    device: str,
    on_error: str,
    dask: str | None,
    **registration: Any,
) -> None:
    """Add photos that the map lacks, and say in the report what came of them."""
    run: dict[str, Any] = {"device": device, "dask": dask}
    listed = made.path / new_photos.LISTED
    replace_text(listed, "".join(f"{name}\n" for name in names))
    looks = [Oriented(*index.look(i)) for i in range(len(index.names))]
    turns = turning.beside(looks, index.turns.tolist(), image_dir, names, masks=masks)
    extraction = extract.work(
        made.extractor, image_dir, made.features,
        image_list=listed, masks=masks, turns=turns, on_error=on_error,
    )  # fmt: skip
    try:
        parallel.run(extraction, dask, device=device)
    except UnreadableImages as error:
        report["unreadable"] = error.reasons
        names = [name for name in names if name not in error.reasons]
    describe.main(made.retrieval, made.features, made.global_descriptors, on_error="stop")
    former = [pair for pair in read_pairs(made.pairs) if not set(names).intersection(pair)]
    pairs = new_photos.pairs(made, index, names, num_matched, device=device)
    _match(made, [*former, *pairs], **run)
    larger = made.next_model()
    cameras = {}
    if registration["camera"] is None:
        cameras = new_photos.shared_cameras(index, image_dir, names)
    new = grow_map.NewPhotos(image_dir, names, pairs, made.features, made.matches, cameras)
    try:
        report["missing"] = grow_map.main(made.model, larger.model, new, **registration)
    except grow_map.NothingAdded:
        _match(made, former, **run)
        with writing(made.features, extract.made_with(made.extractor)) as store:
            store.drop(names)
        describe.main(made.retrieval, made.features, made.global_descriptors, on_error="stop")
        raise
    report["added"] = [name for name in names if name not in report["missing"]]
    turns = {**turns, **dict(zip(index.names, index.turns.tolist(), strict=True))}
    index = index_map.main(larger, image_dir, turns=turns, masks=masks, former=index)
    larger.commit()
    logger.info("Map of %d photos and %d points in %s", len(index.names), len(index.xyz), made.path)


def _match(made: MapFolder, pairs: Sequence[Pair], *, device: str, dask: str | None) -> None:
    """Make these the pairs of the map, and match those that are new."""
    write_pairs(made.pairs, pairs)
    matching = match.work(made.matcher, made.pairs, made.features, made.matches)
    parallel.run(matching, dask, device=device)
