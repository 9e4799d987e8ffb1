"""The folder of shards beside an output: lists of entries, and the files that are made of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.replace import replace_text
from disk_hloc.io.store import Fingerprint, conf_text, reading
from disk_hloc.io.store.hdf5 import entries_with
from disk_hloc.stages.work import Task, Work

# Small enough that few workers wait for the last shards, and large enough that starting a shard
# costs little: loading the weights and, on a GPU, the first batch.
SHARDS_PER_WORKER = 8


@dataclass(frozen=True)
class Shard:
    """A list of entries, and the file that is made of it beside it."""

    listed: Path
    entries: list[str]

    @property
    def file(self) -> Path:
        """The file of the entries."""
        return shard_file(self.listed)


def shard_file(listed: Path) -> Path:
    """Return the file that is made of a list of entries."""
    return listed.with_suffix(".h5")


def folder(work: Work) -> Path:
    """Return the folder of a file's shards."""
    return work.path.absolute().with_name(f"{work.path.name}.shards")


def is_from_scratch(work: Work, overwrite: bool) -> bool:
    """Return whether the file is made from scratch, by this run or by the one that it resumes.

    Raises:
        DiskHlocError: the run to resume had another conf.
    """
    path = _note_path(work)
    if not path.exists():
        return overwrite
    former = json.loads(path.read_text(encoding="utf-8"))
    if former["conf"] != json.loads(conf_text(work.task.made_with)):
        raise DiskHlocError(
            f"{folder(work)} holds the unfinished work of another conf "
            f"({json.dumps(former['conf'], sort_keys=True)}): use --overwrite or another file"
        )
    return bool(former["from_scratch"])


def note(work: Work, from_scratch: bool) -> None:
    """Write down what makes the file, for the run that resumes this one."""
    text = {"conf": json.loads(conf_text(work.task.made_with)), "from_scratch": from_scratch}
    replace_text(_note_path(work), json.dumps(text))


def former(work: Work, missing: Sequence[str]) -> tuple[list[Shard], list[Shard], list[str]]:
    """Sort out what an earlier run left.

    A shard keeps its entries, so that its journal fits, whatever else is asked for now.

    Args:
        work: the work.
        missing: entries that the output does not have.

    Returns:
        Finished shards, unfinished shards, and the missing entries that are in neither.
    """
    finished, unfinished = [], []
    uncut = dict.fromkeys(missing)
    for listed in sorted(folder(work).glob("*.txt")):
        shard = Shard(listed, read_list(listed))
        stored = entries_of(work.task, shard.file) if shard.file.exists() else {}
        to_do = work.task.plan(shard.entries, stored, shard.file).todo
        if to_do and all(entry in uncut for entry in to_do):
            unfinished.append(shard)
            taken = shard.entries
        elif stored:
            # If entries are missing, not all of them are asked for now; the rest is cut again.
            finished.append(shard)
            taken = [entry for entry in shard.entries if entry not in set(to_do)]
        else:
            listed.unlink()
            taken = []
        for entry in taken:
            uncut.pop(entry, None)
    return finished, unfinished, list(uncut)


def cut(work: Work, entries: Sequence[str], num_workers: int) -> list[Shard]:
    """Cut entries into shards, and write their lists.

    The name of a list derives from its entries and the conf.
    """
    size = math.ceil(len(entries) / (SHARDS_PER_WORKER * num_workers))
    size = min(work.max_per_shard, max(1, size))
    entries = work.order(entries, size)
    shards = []
    for start in range(0, len(entries), size):
        chunk = entries[start : start + size]
        text = "".join(f"{entry}\n" for entry in chunk)
        key = f"{conf_text(work.task.made_with)}\n{text}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        shards.append(Shard(folder(work) / f"{digest}.txt", list(chunk)))
        replace_text(shards[-1].listed, text)
    return shards


def entries_of(task: Task, path: Path) -> dict[str, Fingerprint | None]:
    """Return the entries that a shard's file has, with their fingerprints."""
    with reading(path) as file:
        return dict(entries_with(file, *task.arrays))


def read_list(path: Path) -> list[str]:
    """Return the entries of a list."""
    # Not by splitlines(): a name may contain a form feed.
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _note_path(work: Work) -> Path:
    return folder(work) / "run.json"
