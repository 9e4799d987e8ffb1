"""From a folder of photos to features, with all photos the same way up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from disk_hloc import device as devices
from disk_hloc import models, parallel
from disk_hloc.log import logger
from disk_hloc.stages import extract
from disk_hloc.stages import turn as turn_stage
from disk_hloc.stages.work import HlocWork, Work


def main(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    turn: str = "auto",
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
) -> Path:
    """Find out which photos are turned, and extract.

    Args:
        turn: see :func:`disk_hloc.stages.turn.main`. hloc's own extractors take photos as they are
            stored, so ``auto`` turns none for them.
        dask: who extracts (:func:`disk_hloc.parallel.workers.connected`); None is this process.
        conf, image_dir, feature_path, image_list, masks, overwrite, device, on_error: see
            :func:`disk_hloc.stages.extract.main`.

    Returns:
        ``feature_path``.

    Raises:
        DiskHlocError: as the stages.
    """
    if dask is None:
        devices.resolve(device)  # a wrong one is reported before photos are looked at
    (work,) = works(
        [conf], image_dir, [feature_path], feature_path,
        turn=turn, image_list=image_list, masks=masks, on_error=on_error,
    )  # fmt: skip
    return parallel.run(work, dask, overwrite=overwrite, device=device)


def works(
    confs: Sequence[Mapping[str, Any]],
    image_dir: Path,
    feature_paths: Sequence[Path],
    remembered: Path,
    *,
    turn: str = "auto",
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    on_error: str = "skip",
) -> list[Work | HlocWork]:
    """Find out which photos are turned. Return their extraction by each of several confs.

    Args:
        confs: of the extractors.
        feature_paths: the features file of each.
        remembered: the features file beside which the turns are remembered, as those of all confs.
        image_dir, turn, image_list, masks, on_error: see :func:`main`.

    Raises:
        DiskHlocError: as the stages.
    """
    extractions = [
        partial(
            extract.work, conf, image_dir, path,
            image_list=image_list, masks=masks, on_error=on_error,
        )
        for conf, path in zip(confs, feature_paths, strict=True)
    ]  # fmt: skip
    for extraction in extractions:
        extraction()  # What is wrong with the arguments is reported before anything is looked at.
    ours = [models.has("extractors", conf["model"]["name"]) for conf in confs]
    automatic = turn == "auto"
    if automatic and not all(ours):
        logger.info("hloc's extractors take photos as they are stored: they turn nothing")
        turn = "auto" if any(ours) else "none"
    names = extract.chosen_images(image_dir, image_list, masks)
    if image_list is not None and automatic:
        # All of the folder vote, so that the features of several lists agree.
        names = sorted({*names, *extract.chosen_images(image_dir, masks=masks)})
    turns = turn_stage.main(turn, image_dir, names, remembered, masks=masks)
    return [
        extraction(turns=turns if mine or not automatic else {})
        for extraction, mine in zip(extractions, ours, strict=True)
    ]
