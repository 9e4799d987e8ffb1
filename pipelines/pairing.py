"""From photos to the pairs to match; photos are described first where a method retrieves."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from disk_hloc.plugin import find_conf
from disk_hloc.stages import describe, pairs

from .retrieval import VLAD


def main(
    choice: str,
    photos: pairs.Photos,
    features: Callable[[], Path],
    output: Path,
    *,
    without: Collection[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write the pairs that ``--pairs`` asks for.

    Args:
        choice: see :func:`disk_hloc.stages.pairs.choose`.
        photos: the photos.
        features: returns the file of their local features, which exists or is made by it. It is
            called only if a method retrieves.
        output: the folder, which gets ``pairs.txt`` and, if a method retrieves, the global
            descriptors with their codebook.
        without: photos to leave out.
        overwrite: describe the photos from scratch.

    Returns:
        ``pairs.txt``.

    Raises:
        DiskHlocError: as the stages.
    """
    conf = find_conf("global", VLAD)
    descriptors = output / f"{conf['output']}.h5"
    described: list[Path] = []

    def describe_photos() -> Path:
        described.append(descriptors)
        return describe.main(
            conf, features(), descriptors, relearn=True, overwrite=overwrite, on_error="stop"
        )

    photos = pairs.Photos(photos.names, photos.image_dir, describe_photos, photos.device)
    path = pairs.choose(choice, photos, output / "pairs.txt", without)
    if not described:
        # Those of an earlier run, on other photos, are true no more.
        describe.remove(descriptors)
    return path
