"""Convert features and matches between formats, without loss when converting back.

The formats are ``release``, DISK's files (:mod:`disk_hloc.io.release`); ``imc``, those of the Image
Matching Challenge, which only differ in ``matches.h5``, whose datasets are named ``second-first``
with the greater name first; and ``hloc``, ``features.h5``, ``matches.h5`` and ``pairs.txt``.

Data that a format does not provide for are stored where programs do not look. Names with extension,
image sizes, types and hloc's confs are stored as attributes, other arrays of hloc's features in a
file of the same name (``scales.h5``), and the scores of matches in ``matching_scores.h5``. hloc's
matches are in the order of the first image's keypoints, with one score per keypoint: the order of
columns and the scores of keypoints without a match are not kept.

hloc's keypoints are at the centres of their pixels. The release's keypoints of resized photos are
moved there, and become float64 so that they can be moved back exactly.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from disk_hloc.choices import FORMATS
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.store import require_space

from . import hloc, released


def main(
    source_format: str,
    target_format: str,
    source: Path,
    target: Path,
    *,
    image_dir: Path | None = None,
    features: str = "features.h5",
    matches: str = "matches.h5",
    release_origin: bool = False,
    overwrite: bool = False,
) -> Path:
    """Convert a folder.

    Args:
        source_format, target_format: formats of :data:`FORMATS`.
        source: folder in the source format.
        target: folder to write in the target format.
        image_dir: the photos, from which hloc's names are read for images that are stored without
            extension. Only hloc's format supports photos in subfolders.
        features, matches: names of hloc's files in their folder.
        release_origin: keep the release's coordinates of keypoints.
        overwrite: replace files in ``target``.

    Returns:
        ``target``.

    Raises:
        DiskHlocError: a file is missing, broken, or cannot be converted without loss; or ``target``
            already has such files.
    """
    for name in (source_format, target_format):
        if name not in FORMATS:
            raise DiskHlocError(f"unknown format {name!r}: expected {', '.join(FORMATS)}")
    if target.resolve() == source.resolve():
        raise DiskHlocError(f"{target} is the folder to convert from: give another folder")
    with ExitStack() as stack:
        if source_format == "hloc":
            found = hloc.open_source(stack, source / features, source / matches)
        else:
            found = released.open_source(stack, source, source_format == "imc")
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(target, found.num_bytes)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.mkdir()
        stack.callback(shutil.rmtree, partial)
        if target_format == "hloc":
            hloc.write_target(found, partial, image_dir, (features, matches), release_origin)
        else:
            released.write_target(found, partial, target_format == "imc")
        written = sorted(partial.iterdir())
        _require_no_remains(target, target_format, written, (features, matches))
        taken = [path.name for path in written if (target / path.name).exists()]
        if taken and not overwrite:
            raise DiskHlocError(
                f"{target} already has {listing(taken)}: use --overwrite, or give another folder"
            )
        target.mkdir(exist_ok=True)
        for path in written:
            path.replace(target / path.name)
    return target


def _require_no_remains(
    target: Path, target_format: str, written: Iterable[Path], filenames: Iterable[str]
) -> None:
    """Check that no other file in ``target`` would be read together with the written ones."""
    if target_format == "hloc":
        there = {name for name in (*filenames, "pairs.txt") if (target / name).exists()}
    else:
        there = {path.name for path in target.glob("*.h5")}
    remains = sorted(there - {path.name for path in written})
    if remains:
        raise DiskHlocError(
            f"{target} has {listing(remains)}, which would be mixed with the converted files: "
            "remove them, or give another folder"
        )
