"""Work in shards, by many processes or machines at once.

The images, or blocks of pairs that share images, are cut into shards. Each is a task of Dask, which
makes a file of its own in ``<output>.shards/`` beside the output. At the end these files are joined
into the file that one process would have made. A shard's file is crash-safe and can be resumed like
any other (:mod:`disk_hloc.io.store.store`): when a worker is lost, another continues where it was,
and finished entries are never computed again, by this run or the next. See docs/clusters.md.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.store import Fingerprint, Store, join, writing
from disk_hloc.log import logger
from disk_hloc.stages import extract as extraction
from disk_hloc.stages import match as matching
from disk_hloc.stages.work import HlocWork, Work

from . import shard_files, tasks
from . import workers as cluster
from .shard_files import Shard

# How long a file that a worker has written may take to appear here, in a network file system.
VISIBLE_SECONDS = 120.0
_POLL_SECONDS = 1.0


def run(
    work: Work | HlocWork,
    dask: str | None = None,
    *,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Do the work of a stage, in this process or by the workers of Dask.

    Args:
        work: of :func:`disk_hloc.stages.extract.work` or :func:`disk_hloc.stages.match.work`.
        dask: the workers (:func:`disk_hloc.parallel.workers.connected`); None is this process.
            hloc's own models always run in this process, since their files cannot be resumed.
        overwrite: make the file from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        The file, identical to the one that a single process on such a device makes.

    Raises:
        DiskHlocError: as the stage, :func:`disk_hloc.parallel.workers.connected`, or
            :func:`disk_hloc.parallel.tasks.compute`.
    """
    if dask is not None and isinstance(work, HlocWork):
        logger.warning("%s runs through hloc: here, in one process", work.model_name)
    if dask is None or isinstance(work, HlocWork):
        return work.run(overwrite=overwrite, device=device)
    work.report(_make(work, dask, overwrite=overwrite, device=device))
    return work.path


def extract(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    dask: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    **options: Any,
) -> Path:
    """Extract features as :func:`disk_hloc.stages.extract.main`, by the workers of Dask.

    Args:
        conf, image_dir, feature_path: those of the stage.
        dask, overwrite, device: see :func:`run`.
        options: the other options of the stage.

    Returns:
        ``feature_path``.

    Raises:
        DiskHlocError: as :func:`run`.
    """
    work = extraction.work(conf, image_dir, feature_path, **options)
    return run(work, dask, overwrite=overwrite, device=device)


def match(
    conf: Mapping[str, Any],
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    *,
    dask: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    **options: Any,
) -> Path:
    """Match pairs as :func:`disk_hloc.stages.match.main`, by the workers of Dask.

    Args:
        conf, pairs_path, feature_path, match_path: those of the stage.
        dask, overwrite, device: see :func:`run`.
        options: the other options of the stage.

    Returns:
        ``match_path``.

    Raises:
        DiskHlocError: as :func:`run`.
    """
    work = matching.work(conf, pairs_path, feature_path, match_path, **options)
    return run(work, dask, overwrite=overwrite, device=device)


def _make(work: Work, dask: str, *, overwrite: bool, device: str) -> list[Any]:
    """Make the entries that a file is missing. Returns what the tasks returned."""
    cluster.check(dask)
    folder = shard_files.folder(work)
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    from_scratch = shard_files.is_from_scratch(work, overwrite)
    task = work.task
    finished: list[Shard] = []
    results = []
    with _holding(work, from_scratch) as store:
        plan = task.plan(work.entries, store.entries(*task.arrays), work.path)
        plan.log()
        if plan.todo:
            finished, unfinished, uncut = shard_files.former(work, plan.todo)
            if unfinished or uncut:
                shard_files.note(work, from_scratch)
                with _left_if_used(folder), cluster.connected(dask, device) as client:
                    device, resources = cluster.agreed_device(client, device)
                    num_workers = cluster.num_workers(client, dask)
                    shards = unfinished + shard_files.cut(work, uncut, num_workers)
                    logger.info(
                        "%d %ss in %d shards, and %d finished before; %d workers, on %s",
                        sum(len(shard.entries) for shard in shards), task.unit, len(shards),
                        len(finished), len(client.nthreads()), device,
                    )  # fmt: skip
                    results = tasks.compute(client, work, shards, device, resources)
                finished += shards
            for shard in finished:
                _await_visible(shard.file)
    if finished:
        files = [shard.file for shard in finished]
        join(
            work.path, files, task.arrays[0],
            leave_out=_not_asked_for(work, finished), drop=plan.outdated, overwrite=from_scratch,
        )  # fmt: skip
    elif store.names or plan.outdated:
        # The entries are in the journal of a run in one process that was stopped at its very end.
        with writing(work.path, task.made_with) as store:
            store.drop(plan.outdated)
    shutil.rmtree(folder, ignore_errors=True)
    return results


def _not_asked_for(work: Work, shards: Sequence[Shard]) -> set[str]:
    """Return the entries of shards that this run is not asked for: an earlier run was."""
    stored: dict[str, Fingerprint | None] = {}
    for shard in shards:
        stored |= shard_files.entries_of(work.task, shard.file)
    return work.task.plan(work.entries, stored, work.path).gone


class _Left(Exception):
    """Ends the writing of a file without making it."""


@contextmanager
def _holding(work: Work, overwrite: bool) -> Iterator[Store]:
    """Keep others from writing a file, which is made in another way, and see what it has."""
    with (
        suppress(_Left),
        writing(work.path, work.task.made_with, overwrite=overwrite) as store,
    ):
        yield store
        raise _Left


@contextmanager
def _left_if_used(folder: Path) -> Iterator[None]:
    """After an error, remove the folder if no shard in it was started."""
    try:
        yield
    except BaseException:
        if not any(folder.glob("*.h5*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _await_visible(path: Path) -> None:
    """Wait for a file that another machine has written."""
    start = time.monotonic()
    while not path.exists():
        if time.monotonic() - start > VISIBLE_SECONDS:
            raise DiskHlocError(
                f"{path}, which a worker has written, cannot be seen here: outputs must be in a "
                "file system that all machines share"
            )
        time.sleep(_POLL_SECONDS)
