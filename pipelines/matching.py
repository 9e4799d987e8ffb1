"""From a folder of photos to matches: extract, choose pairs, match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc import parallel
from disk_hloc.errors import UnreadableImages
from disk_hloc.io.text import require_listable
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match, pairs
from disk_hloc.stages.timing import timed

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
        images: the names of all images.
    """

    features: Path
    pairs: Path
    matches: Path
    seconds: dict[str, float]
    unreadable: dict[str, str]
    images: list[str]


def main(
    image_dir: Path,
    output: Path,
    *,
    extractor: str = "disk",
    matcher: str = "disk",
    pairs_from: str = "auto",
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
    dask: str | None = None,
) -> Matched:
    """Extract, choose pairs, match.

    Args:
        output: gets ``features.h5``, ``pairs.txt``, ``matches.h5``, and global descriptors where
            pairs are retrieved.
        image_dir, extractor, matcher, pairs_from, masks, overwrite, device, on_error, dask: see
            :func:`disk_hloc.pipelines.sfm.main`.

    Raises:
        DiskHlocError: as the stages.
    """
    extractor_conf = find_conf("extractors", extractor)
    matcher_conf = find_conf("matchers", matcher)
    names = extract.chosen_images(image_dir, masks=masks)
    require_listable(names)
    match.require_names(matcher_conf, names)
    photos = pairs.Photos(names, image_dir, device=device)
    pairs.check_choice(pairs_from, photos)
    files = output / "features.h5", output / "pairs.txt", output / "matches.h5"
    made = Matched(*files, seconds={}, unreadable={}, images=names)
    with timed(made.seconds, "extract"):
        extraction = extract.work(
            extractor_conf, image_dir, made.features, masks=masks, on_error=on_error
        )
        try:
            parallel.run(extraction, dask, overwrite=overwrite, device=device)
        except UnreadableImages as error:
            made.unreadable.update(error.reasons)
    with timed(made.seconds, "pairs"):
        again = overwrite or extraction.renumbers
        pairing.main(
            pairs_from, photos, lambda: made.features, output,
            without=made.unreadable, overwrite=again,
        )  # fmt: skip
    with timed(made.seconds, "match"):
        matching = match.work(matcher_conf, made.pairs, made.features, made.matches)
        parallel.run(matching, dask, overwrite=again, device=device)
    return made
