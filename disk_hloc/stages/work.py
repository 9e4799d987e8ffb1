"""What a stage has to do to make an HDF5 file.

A stage describes its work, which then runs here (:meth:`Work.run`) or by the workers of Dask
(:func:`disk_hloc.parallel.run`). Either way the file is the same, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disk_hloc.io.store import Fingerprint, Plan, writing


@dataclass(frozen=True)
class Task:
    """How entries of a file are made. It can be sent to another process.

    Attributes:
        made_with: what the entries depend on, as their file remembers it.
        arrays: arrays that a whole entry has.
        unit: what an entry is, ``image`` or ``pair``.
        plan: compares entries with those that a file has: takes the entries, what the file has,
            and the file.
        load: returns a model on a device, given by its name.
        compute: makes entries. Takes what ``load`` returned, the entries, the store to add them to,
            and ``paths`` by their names; what it returns goes to :attr:`Work.report`.
        paths: files and folders that ``compute`` reads.
    """

    made_with: Mapping[str, Any]
    arrays: tuple[str, ...]
    unit: str
    plan: Callable[[Sequence[str], Mapping[str, Fingerprint | None], Path], Plan]
    load: Callable[[str], Any]
    compute: Callable[..., Any]
    paths: Mapping[str, Path] = field(default_factory=dict)

    def run(
        self, path: Path, entries: Sequence[str], *, overwrite: bool = False, device: str = "auto"
    ) -> Any:
        """Make the entries that a file is missing, and those whose inputs have changed.

        Args:
            path: the file to make or to add to.
            entries: images, or pairs as lines of a pairs file.
            overwrite: make the file from scratch.
            device: ``auto``, ``cpu``, ``cuda``, ...

        Returns:
            What ``compute`` returned.

        Raises:
            DiskHlocError: as ``load`` and ``compute``, or the file was made with another conf.
        """
        model = self.load(device)
        with writing(path, self.made_with, overwrite=overwrite) as store:
            plan = self.plan(entries, store.entries(*self.arrays), path)
            plan.log()
            # Those that cannot be made again must not stay.
            store.drop(plan.outdated)
            return self.compute(model, plan.todo, store, **self.paths)


@dataclass(frozen=True)
class Work:
    """Entries to make, and what to do with them.

    Attributes:
        path: the file.
        entries: images, or pairs as lines of a pairs file.
        task: how they are made.
        report: gets what ``Task.compute`` returned, a list with one item for each time it ran;
            tells the user or raises an error.
        max_per_shard: entries that one worker makes at a time, at most.
        order: puts entries in an order in which those of a shard, of the given size, belong
            together.
        narrowed: returns ``task`` without what it knows of other entries than some, for workers
            to which it is sent; None where it knows nothing of single entries.
    """

    path: Path
    entries: Sequence[str]
    task: Task
    report: Callable[[list[Any]], None]
    max_per_shard: int
    order: Callable[[Sequence[str], int], list[str]]
    narrowed: Callable[[Sequence[str]], Task] | None = None

    def task_of(self, entries: Sequence[str]) -> Task:
        """Return the task of some of the entries."""
        return self.task if self.narrowed is None else self.narrowed(entries)

    def run(self, *, overwrite: bool = False, device: str = "auto") -> Path:
        """Do the work in this process. Entries that the file has already are kept.

        Args:
            overwrite: make the file from scratch.
            device: ``auto``, ``cpu``, ``cuda``, ...

        Returns:
            ``path``.

        Raises:
            DiskHlocError: as :meth:`Task.run` and ``report``.
        """
        self.report([self.task.run(self.path, self.entries, overwrite=overwrite, device=device)])
        return self.path

    @property
    def renumbers(self) -> bool:
        """Whether the file may get new entries for those that it has: never."""
        return False


@dataclass(frozen=True)
class HlocWork:
    """Work that hloc's own loop does, in one process: it writes files that cannot be resumed.

    Attributes:
        path: the file.
        model_name: the model, which is not ours.
        make: makes the file, from scratch if its argument says so.
        renumbers: each run makes the entries again, maybe with other keypoints, so that what was
            made of the earlier ones has to be made again, too.
    """

    path: Path
    model_name: str
    make: Callable[[bool], Path]
    renumbers: bool = False

    def run(self, *, overwrite: bool = False, device: str = "auto") -> Path:
        """Do the work in this process, on the device that hloc chooses. Returns ``path``."""
        return self.make(overwrite)
