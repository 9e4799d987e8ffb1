"""Features and matches from one format to another, with nothing lost on the way there and back.

``release``: DISK's files (:mod:`disk_hloc.io.release`). ``imc``: the Image Matching Challenge's,
the same but for ``matches.h5``, whose datasets are called ``second-first``, the greater name first.
``hloc``: ``features.h5``, ``matches.h5`` and ``pairs.txt``.

What a format has no place for is kept where programs do not look: the name with its extension, the
size of the image, types and hloc's confs as attributes; what else hloc's features hold as a file of
that name (``scales.h5``), and the matches' scores as ``matching_scores.h5``. hloc's matches have
the order of the first image's keypoints, and one score a keypoint: the order of columns and the
scores of keypoints without a match are not kept.

hloc's keypoints lie at their pixels' centres. Released ones of resized photos are moved there, and
are then float64, so that they can be moved back to the last bit.
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
        source_format, target_format: of :data:`FORMATS`.
        source: a folder in the one format.
        target: the folder to write in the other.
        image_dir: the photos, which tell hloc's names of images that are known without extension.
            Photos in folders are known to hloc's format only.
        features, matches: hloc's files in their folder.
        release_origin: leave keypoints where the release has them.
        overwrite: replace what is in ``target``.

    Returns:
        ``target``.

    Raises:
        DiskHlocError: a file is missing, broken, or cannot be told in the other format without
            loss; or ``target`` has such files.
    """
    for name in (source_format, target_format):
        if name not in FORMATS:
            raise DiskHlocError(f"no format is called {name!r}; known: {', '.join(FORMATS)}")
    if target.resolve() == source.resolve():
        raise DiskHlocError(f"{target} would replace what it is made from: give another folder")
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
                f"{target} has {listing(taken)} already: use --overwrite, or give another folder"
            )
        target.mkdir(exist_ok=True)
        for path in written:
            path.replace(target / path.name)
    return target


def _require_no_remains(
    target: Path, target_format: str, written: Iterable[Path], filenames: Iterable[str]
) -> None:
    """Check that what stays in ``target`` would not be taken for a part of what is written."""
    if target_format == "hloc":
        there = {name for name in (*filenames, "pairs.txt") if (target / name).exists()}
    else:
        there = {path.name for path in target.glob("*.h5")}
    remains = sorted(there - {path.name for path in written})
    if remains:
        raise DiskHlocError(
            f"{target} has {listing(remains)}, which would mix with what is converted: remove, or "
            "give another folder"
        )
