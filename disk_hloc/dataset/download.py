"""Download the data that DISK was trained and validated on, which EPFL publishes.

DISK was trained on scenes of MegaDepth with depth, and validated on three scenes of the Image
Matching Challenge 2020. There is one archive per scene, a ``dataset.json`` for each of the two
parts, and ``md5sum.txt``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.names import require_relative
from disk_hloc.io.replace import replace_text
from disk_hloc.io.training.files import FOLDERS, read_dataset
from disk_hloc.log import logger

from .fetch import Stopped, fetch, part_of, read_text, size_of
from .unpack import unpack

URL = "https://datasets.epfl.ch/disk-data"
# The release's training calls the folders train and test.
PARTS = {"train": "megadepth", "test": "imw2020-val"}
# Leading folders of the names in the archives, which the release leaves out too.
STRIP_COMPONENTS = 3

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_RECORD = "downloaded.json"


@dataclass(frozen=True)
class _Item:
    """A file on the server: its path, and its MD5 sum and size in bytes if they are known."""

    name: str
    md5: str | None
    size: int | None

    @property
    def is_archive(self) -> bool:
        return self.name.endswith(_ARCHIVES)


def main(
    output: Path,
    *,
    split: str = "both",
    url: str = URL,
    keep_archives: bool = False,
    overwrite: bool = False,
) -> Path:
    """Download, check and unpack the data.

    If it is interrupted, the same call resumes. ``dataset.json`` is written after all scenes of its
    part, so if it exists, they are complete.

    Args:
        output: gets ``megadepth/`` and ``imw2020-val/``, the links ``train`` and ``test`` to them,
            and ``downloaded.json``, which records what is done.
        split: ``train``, ``test`` or ``both``.
        url: the folder of ``md5sum.txt``.
        keep_archives: keep the archives next to the unpacked files.
        overwrite: start over.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: the server cannot be reached, the disk has too little space, or files are
            missing or broken (all others are then done).
    """
    url = url.rstrip("/")
    splits = tuple(PARTS) if split == "both" else (split,)
    listed = _listed(read_text(f"{url}/md5sum.txt"), f"{url}/md5sum.txt")
    names = [name for one in splits for name in _names_of(listed, PARTS[one])]
    done = _done(output)
    if overwrite:
        done = _forget(output, names, done)
    todo = [name for name in names if not _is_done(output, done.get(name), listed.get(name))]
    if len(todo) < len(names):
        logger.info("%d of %d files are already done", len(names) - len(todo), len(names))
    items = [
        _Item(name, listed.get(name), size_of(f"{url}/{name}"))
        for name in tqdm(todo, desc="Ask for sizes", unit="file", disable=not todo)
    ]
    output.mkdir(parents=True, exist_ok=True)
    _require_space(output, items, keep_archives)
    failures: dict[str, str] = {}
    known = [item.size or 0 for item in items]
    with tqdm(
        total=sum(known), desc="Download", unit="B", unit_scale=True, disable=not items
    ) as bar:
        for item in items:
            part = PurePosixPath(item.name).parts[0]
            broken = [name for name in failures if name.startswith(f"{part}/")]
            if item.name.endswith("dataset.json") and broken:
                continue
            bar.set_postfix_str(item.name)
            try:
                done[item.name] = _get(url, item, output, bar, keep_archives)
            except Stopped:
                raise
            except DiskHlocError as error:
                logger.warning("%s", error)
                failures[item.name] = str(error)
                continue
            replace_text(output / _RECORD, json.dumps(done, indent=1) + "\n")
    if failures:
        first = next(iter(failures.values()))
        raise DiskHlocError(
            f"{len(failures)} of {len(names)} files failed, all others are done: "
            f"{listing(list(failures))}; {first}"
        )
    for one in splits:
        _require_scenes(output / PARTS[one] / "dataset.json")
        _link(output, one)
    return output


def _listed(text: str, url: str) -> dict[str, str]:
    """Parse the MD5 sums of files, as ``md5sum`` writes them."""
    sums = {}
    for line in text.splitlines():
        found = re.fullmatch(r"([0-9a-fA-F]{32}) [ *](.+?)\s*", line)
        if found is None:
            continue
        path = PurePosixPath(found[2])
        if path.is_absolute() or ".." in path.parts:
            raise DiskHlocError(f"{url} names {found[2]!r}, which is outside its folder")
        sums[str(path)] = found[1].lower()
    if not sums:
        raise DiskHlocError(f"{url} has no MD5 sums, so it is not that of the data set")
    return sums


def _names_of(listed: Mapping[str, str], part: str) -> list[str]:
    """Return the files of one part, with ``dataset.json`` last, even if it has no MD5 sum."""
    last = f"{part}/dataset.json"
    names = sorted(name for name in listed if name.startswith(f"{part}/") and name != last)
    if not names:
        raise DiskHlocError(f"md5sum.txt on the server has no files in {part}/: give another --url")
    return [*names, last]


def _get(url: str, item: _Item, output: Path, bar: Any, keep_archives: bool) -> dict[str, Any]:
    """Download and unpack one file, and return its record for ``downloaded.json``."""
    path = output / item.name
    if path.is_file():
        # A file gets its name only after it was checked.
        bar.update(item.size or 0)
    else:
        part = part_of(path)
        if part.is_file():
            bar.update(part.stat().st_size)
        fetch(f"{url}/{item.name}", path, md5=item.md5, progress=bar.update)
    if not item.is_archive:
        return {"md5": item.md5, "made": [item.name]}
    names = unpack(path, path.parent, STRIP_COMPONENTS)
    if not keep_archives:
        path.unlink()
    folder = PurePosixPath(item.name).parent
    return {"md5": item.md5, "made": [str(folder / name) for name in names]}


def _done(output: Path) -> dict[str, Any]:
    path = output / _RECORD
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DiskHlocError(
            f"{path} cannot be read ({error}): remove it, or use --overwrite"
        ) from error


def _is_done(output: Path, record: Any, md5: str | None) -> bool:
    return (
        isinstance(record, dict)
        and record.get("md5") == md5
        and all((output / made).exists() for made in record.get("made", [""]))
    )


def _forget(output: Path, names: Sequence[str], done: Mapping[str, Any]) -> dict[str, Any]:
    """Remove what earlier calls made of files, and nothing else; return what is still done."""
    for name in names:
        part_of(output / name).unlink(missing_ok=True)
        record = done.get(name)
        if not isinstance(record, dict):
            continue
        for made in (name, *record.get("made", [])):
            path = output / require_relative(made, output / _RECORD)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    left = {name: record for name, record in done.items() if name not in names}
    if left:
        replace_text(output / _RECORD, json.dumps(left, indent=1) + "\n")
    else:
        (output / _RECORD).unlink(missing_ok=True)
    return left


def _require_space(output: Path, items: Sequence[_Item], keep_archives: bool) -> None:
    """Check that the files fit on the disk, with space to unpack the largest archive."""
    missing = 0
    for item in items:
        path = output / item.name
        there = path if path.is_file() else part_of(path)
        have = there.stat().st_size if there.is_file() else 0
        missing += max(0, (item.size or 0) - have)
    archives = [item.size or 0 for item in items if item.is_archive]
    unpacked = sum(archives) if keep_archives else max(archives, default=0)
    free = shutil.disk_usage(output).free
    if free < missing + unpacked:
        raise DiskHlocError(
            f"the disk of {output} has {free / 1e9:.1f} GB free, and "
            f"{(missing + unpacked) / 1e9:.1f} GB are needed: free some space, give another "
            "folder, or only use --split test"
        )


def _require_scenes(path: Path) -> None:
    """Check that the folders of a data set exist."""
    missing = [
        name
        for name, scene in read_dataset(path).items()
        if not all((path.parent / scene[key]).is_dir() for key in FOLDERS if scene.get(key))
    ]
    if missing:
        raise DiskHlocError(
            f"{path} has scenes whose folders are not in the archives: {listing(missing)}; "
            "they cannot be used for training"
        )


def _link(output: Path, split: str) -> None:
    """Link the release's name of a part to its folder."""
    link = output / split
    if link.is_symlink() or link.exists():
        if link.resolve() != (output / PARTS[split]).resolve():
            logger.warning("%s exists and is not changed: the data are in %s", link, PARTS[split])
        return
    try:
        link.symlink_to(PARTS[split], target_is_directory=True)
    except OSError as error:
        logger.warning("cannot link %s (%s): the data are in %s", link, error, PARTS[split])
