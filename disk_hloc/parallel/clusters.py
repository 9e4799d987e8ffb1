"""Clusters of photos, mapped by the workers of Dask."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from disk_hloc.errors import DiskHlocError
from disk_hloc.stages import cluster_mapping
from disk_hloc.stages.cluster_mapping import Cluster, Spread

from . import workers
from .tasks import require_workers

_POLL_SECONDS = 0.5


def spread(dask: str | None) -> Spread:
    """Return who maps clusters.

    Args:
        dask: the workers (:func:`disk_hloc.parallel.workers.connected`); None is processes here.
    """
    if dask is None:
        return cluster_mapping.in_processes

    def by_workers(found: Sequence[Cluster]) -> Iterator[Cluster]:
        return _by_workers(dask, found)

    return by_workers


def _by_workers(dask: str, found: Sequence[Cluster]) -> Iterator[Cluster]:
    """Map clusters by workers, and yield them as they end.

    Raises:
        DiskHlocError: an error of a task, a cluster killed several workers, or all workers are
            lost. Mapping starts over then.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    with workers.connected(dask, "cpu") as client:
        cluster_of = {
            client.submit(
                cluster_mapping.map_one,
                replace(
                    cluster,
                    database_path=cluster.database_path.absolute(),
                    folder=cluster.folder.absolute(),
                    log_dir=cluster.log_dir.absolute(),
                ),
                pure=False,
            ): cluster
            for cluster in found
        }
        ended = as_completed(list(cluster_of), loop=client.loop)
        last_worker = time.monotonic()
        while ended.count():
            for future in ended.next_batch(block=False):
                try:
                    future.result()
                except KilledWorker as error:
                    raise DiskHlocError(
                        "several workers died while they mapped a cluster, most likely for lack of "
                        "memory: run the same command with fewer workers per machine"
                    ) from error
                yield cluster_of[future]
            if client.status != "running":
                raise DiskHlocError(
                    "the Dask scheduler is gone: start it, and run the same command again"
                )
            last_worker = require_workers(client, last_worker)
            time.sleep(_POLL_SECONDS)
