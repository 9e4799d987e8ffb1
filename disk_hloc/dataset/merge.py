"""Merge several data sets into one, like DISK's ``merge_datasets``, and adjust relative folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.training.files import FOLDERS, Scene, read_dataset, tuple_size, write_dataset
from disk_hloc.log import logger


def main(sources: Sequence[Path], output: Path, *, overwrite: bool = False) -> Path:
    """Write the scenes of several data sets to one file; photos, depth and calibrations stay.

    If the name of a scene is taken, the name of its file's folder is put before it, and a number
    after it if necessary. Relative folders are made relative to ``output``; absolute ones are kept.

    Args:
        sources: ``dataset.json`` files, or their folders.
        output: the file to write.
        overwrite: replace an existing ``output``.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: a file is not a data set, is given twice or equals ``output``, a folder is
            missing, tuples have different sizes, or ``output`` exists already.
    """
    paths = [path / "dataset.json" if path.is_dir() else path for path in sources]
    if output.is_dir():
        raise DiskHlocError(f"{output} is a folder: give a file to write, e.g. {output}/all.json")
    read = {path: read_dataset(path) for path in paths}
    real = [path.resolve() for path in paths]
    if output.resolve() in real:
        raise DiskHlocError(f"{output} is one of the data sets to merge: give another file")
    if len(set(real)) < len(real):
        twice = [str(path) for path, one in zip(paths, real, strict=True) if real.count(one) > 1]
        raise DiskHlocError(f"a data set is given twice: {listing(twice)}")
    if output.exists() and not overwrite:
        raise DiskHlocError(f"{output} already exists: use --overwrite, or give another file")
    merged: dict[str, Scene] = {}
    for path, scenes in read.items():
        for name, scene in scenes.items():
            free = _free_name(name, path, merged)
            if free != name:
                logger.info("The scene %s of %s was renamed to %s", name, path, free)
            merged[free] = _moved(scene, name, path, output)
    tuple_size(merged)
    without = [name for name, scene in merged.items() if not scene.get("depth_path")]
    if without and len(without) < len(merged):
        logger.warning(
            "%d of %d scenes have no depth, so the merged data set can only be used with the "
            "epipolar reward: %s", len(without), len(merged), listing(without),
        )  # fmt: skip
    write_dataset(output, merged)
    logger.info("%s: %d scenes of %d data sets", output, len(merged), len(paths))
    return output


def _free_name(name: str, path: Path, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    name = f"{path.resolve().parent.name}-{name}"
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _moved(scene: Scene, name: str, source: Path, target: Path) -> Scene:
    """Return a scene with folders relative to ``target``."""
    moved = dict(scene)
    for key in FOLDERS:
        folder = scene.get(key)
        if not folder:
            # The release writes an empty folder if depth is left out.
            moved.pop(key, None)
            continue
        found = source.parent / folder
        if not found.is_dir():
            raise DiskHlocError(
                f"{source}: the {key} {found} of the scene {name} is not an existing folder"
            )
        if not Path(folder).is_absolute():
            moved[key] = os.path.relpath(found.resolve(), target.parent.resolve())
    return moved
