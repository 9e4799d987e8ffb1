"""From a folder of photos to matches: extract, choose pairs, match; for one extractor or more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc import device as devices
from disk_hloc import parallel
from disk_hloc.errors import UnreadableImages
from disk_hloc.io.text import require_listable
from disk_hloc.plugin import find_parts
from disk_hloc.stages import extract, match, mix, pairs
from disk_hloc.stages.timing import timed
from disk_hloc.stages.turn import read_turns

from . import extraction as extracting
from . import pairing


@dataclass(frozen=True)
class Matched:
    """Files that were made, and what is known of the making.

    Attributes:
        features: the features file.
        pairs: the pairs file.
        matches: the matches file.
        seconds: stage -> its duration.
        unreadable: images that are left out -> why they cannot be read.
        turned: photos that were turned for extraction -> by how many degrees, counter-clockwise.
        images: the names of all images.
    """

    features: Path
    pairs: Path
    matches: Path
    seconds: dict[str, float]
    unreadable: dict[str, str]
    turned: dict[str, int]
    images: list[str]


def main(
    image_dir: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str | None = None,
    pairs_from: str = "auto",
    turn: str = "auto",
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
) -> Matched:
    """Extract, choose pairs, match.

    Args:
        output: gets ``features.h5``, ``pairs.txt``, ``matches.h5``, and global descriptors where
            pairs are retrieved. With several extractors, each has its own features and matches in
            ``parts/<extractor>/``, and those files join them (:mod:`disk_hloc.stages.mix`).
        image_dir, extractor, matcher, pairs_from, turn, masks, overwrite, device, on_error,
            dask: see :func:`disk_hloc.pipelines.sfm.main`.

    Raises:
        DiskHlocError: as the stages.
    """
    parts = find_parts(extractor, matcher)
    if dask is None:
        devices.resolve(device)  # a wrong one is reported before photos are looked at
    names = extract.chosen_images(image_dir, masks=masks)
    require_listable(names)
    for part in parts:
        match.require_names(part.matcher, names)
    photos = pairs.Photos(names, image_dir, device=device)
    pairs.check_choice(pairs_from, photos)
    files = output / "features.h5", output / "pairs.txt", output / "matches.h5"
    made = Matched(*files, seconds={}, unreadable={}, turned={}, images=names)
    folders = [output / "parts" / part.stem for part in parts] if len(parts) > 1 else [output]
    part_files = [(folder / "features.h5", folder / "matches.h5") for folder in folders]
    if len(parts) > 1 and not overwrite:
        mix.require_joined(made.features, made.matches)
    again = []
    with timed(made.seconds, "extract"):
        extractions = extracting.works(
            [part.extractor for part in parts], image_dir, [path for path, _ in part_files],
            made.features, turn=turn, masks=masks, on_error=on_error,
        )  # fmt: skip
        made.turned.update(read_turns(made.features))
        for extraction in extractions:
            again.append(overwrite or extraction.renumbers)
            try:
                parallel.run(extraction, dask, overwrite=overwrite, device=device)
            except UnreadableImages as error:
                made.unreadable.update(error.reasons)
    with timed(made.seconds, "pairs"):
        # Joined features have no descriptors to describe photos by.
        pairing.main(
            pairs_from, photos, lambda: part_files[0][0], output,
            without=made.unreadable, overwrite=again[0],
        )  # fmt: skip
    with timed(made.seconds, "match"):
        for part, (features, matches), from_scratch in zip(parts, part_files, again, strict=True):
            matching = match.work(part.matcher, made.pairs, features, matches)
            parallel.run(matching, dask, overwrite=from_scratch, device=device)
    if len(parts) > 1:
        with timed(made.seconds, "join"):
            readable = [name for name in names if name not in made.unreadable]
            mix.join_features(part_files, made.features, names=readable, overwrite=overwrite)
            mix.join_matches(
                part_files, made.pairs, made.features, made.matches, overwrite=overwrite
            )
    return made
