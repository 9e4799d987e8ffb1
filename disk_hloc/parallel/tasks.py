"""Shards as tasks of Dask: what a worker does, and how the driver follows it."""

from __future__ import annotations

import os
import queue
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from disk_hloc.errors import Busy, DiskHlocError
from disk_hloc.stages.work import Task, Work

from .shard_files import Shard, folder, read_list, shard_file

if TYPE_CHECKING:
    from distributed import Client, Future

# After this time a shard is tried again that another worker, thought to be lost, still writes.
BUSY_SECONDS = 5.0
# After this time a run stops that has lost all its workers.
WITHOUT_WORKERS_SECONDS = 300.0
_POLL_SECONDS = 1.0


def compute(
    client: Client,
    work: Work,
    shards: Sequence[Shard],
    device: str,
    resources: Mapping[str, float],
) -> list[Any]:
    """Have workers make the files of shards.

    Args:
        client: of the workers.
        work: whose shards they are.
        shards: the shards.
        device: the device of all workers.
        resources: the worker's resources that a task takes.

    Returns:
        What the tasks returned.

    Raises:
        DiskHlocError: an error of a task, a shard killed several workers, all workers are lost, or
            the scheduler is. Finished shards are kept.
    """
    paths = {name: path.absolute() for name, path in work.task.paths.items()}
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    running: dict[Any, tuple[Future, Shard]] = {}
    waiting = [(0.0, shard) for shard in shards]
    results = []
    last_worker = time.monotonic()
    total = sum(len(shard.entries) for shard in shards)
    progress = tqdm(total=total, desc=f"Make {work.path.name}", unit=work.task.unit)
    try:
        with progress:
            while running or waiting:
                now = time.monotonic()
                for _, shard in [item for item in waiting if item[0] <= now]:
                    future = client.submit(
                        make_shard,
                        replace(work.task_of(shard.entries), paths=paths),
                        shard.listed,
                        Path.cwd(),
                        device,
                        pure=False,
                        resources=dict(resources),
                    )
                    running[future.key] = future, shard
                    future.add_done_callback(ended.put)
                waiting = [item for item in waiting if item[0] > now]
                try:
                    future = ended.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    kept = f"; what is done is kept in {folder(work)}"
                    last_worker = require_workers(client, last_worker, kept)
                    continue
                _, shard = running.pop(future.key)
                try:
                    results.append(_result(future, work, shard))
                    progress.update(len(shard.entries))
                except Busy:
                    waiting.append((time.monotonic() + BUSY_SECONDS, shard))
    finally:
        if client.status == "running":
            client.cancel([future for future, _ in running.values()])
    return results


def make_shard(task: Task, listed: Path, driver_folder: Path, device: str) -> Any:
    """Make the file of a shard. Runs on a worker.

    Args:
        task: how entries are made.
        listed: the shard's list.
        driver_folder: the current folder of the driver, to which relative paths refer.
        device: the device to compute on.

    Returns:
        What ``task.compute`` returned.

    Raises:
        DiskHlocError: as the task, or the worker does not see the driver's files.
    """
    if not listed.is_file():
        raise DiskHlocError(
            f"the worker on {socket.gethostname()} does not see {listed}: photos and outputs must "
            "be in a file system that all machines share, under the same path"
        )
    if driver_folder.is_dir():
        os.chdir(driver_folder)
    return task.run(shard_file(listed), read_list(listed), device=device)


def _result(future: Future, work: Work, shard: Shard) -> Any:
    from distributed.scheduler import KilledWorker

    if future.status not in ("finished", "error"):
        raise DiskHlocError(
            f"the Dask scheduler is gone: start it, and run the same command again; what is done "
            f"is kept in {folder(work)}"
        )
    try:
        return future.result()
    except KilledWorker as error:
        raise DiskHlocError(
            f"several workers died while they worked on the {work.task.unit}s of {shard.listed}, "
            "most likely for lack of memory: run the same command with fewer workers per machine, "
            "or a smaller resize_max; what is done is kept"
        ) from error


def require_workers(client: Client, last_worker: float, kept: str = "") -> float:
    """Check that there are workers, or were some a short while ago.

    Args:
        client: of the workers.
        last_worker: when there was one last, of :func:`time.monotonic`.
        kept: what the error says of finished work.

    Returns:
        When there was a worker last.

    Raises:
        DiskHlocError: all are lost, for longer than :data:`WITHOUT_WORKERS_SECONDS`.
    """
    now = time.monotonic()
    if client.status != "running" or client.nthreads():
        return now
    if now - last_worker > WITHOUT_WORKERS_SECONDS:
        raise DiskHlocError(
            f"all workers are lost, and no new one came for {WITHOUT_WORKERS_SECONDS:.0f} seconds: "
            f"start workers, and run the same command again{kept}"
        )
    return last_worker
