"""Map clusters of photos, each in a process of its own.

Each process imports this module: it must not import what only dividing and joining need.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pycolmap
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import isolated
from disk_hloc.io.replace import sync_all
from disk_hloc.log import logger

from . import mapping

# Photos of a cluster, and photos that a cluster takes from a neighbour.
CLUSTER_SIZE = 150
SHARED = 8
_MODELS = "models"
_NAMES = "names.txt"
# Other clusters have the other cores. The joined model is adjusted twice, so that one refinement of
# a cluster does: 4 s less of 12.
_OPTIONS = {"num_threads": 1, "ba_global_max_refinements": 1}


@dataclass(frozen=True)
class Cluster:
    """Photos that are mapped together.

    Attributes:
        names: the photos, with those that it shares with others.
        own: how many of them are in no other cluster.
        database_path: a verified database.
        folder: gets the models, in ``models/0/``, ``models/1/``, ..., and the names in
            ``names.txt``.
        log_dir: where COLMAP's log is written.
        fix_intrinsics: keep the cameras' parameters.
    """

    names: tuple[str, ...]
    own: int
    database_path: Path
    folder: Path
    log_dir: Path
    fix_intrinsics: bool


# Maps clusters, anywhere, and yields them as they end.
Spread = Callable[[Sequence[Cluster]], Iterator[Cluster]]


def in_processes(found: Sequence[Cluster]) -> Iterator[Cluster]:
    """Map clusters, as many at a time as there are cores, each in a process of its own.

    Yields:
        The clusters, as they end.
    """
    ended = isolated.call_each(
        _map,
        found,
        task=_task,
        log_dir=lambda cluster: cluster.log_dir,
        at_most=os.cpu_count() or 1,
    )
    for cluster, _ in ended:
        yield cluster


def map_clusters(found: Sequence[Cluster], spread: Spread = in_processes) -> None:
    """Map clusters; their models are written to their folders.

    Clusters whose models are there already, of a run that was stopped, are not mapped again.

    Args:
        found: the clusters.
        spread: maps them, here or elsewhere.
    """
    for cluster in found:
        cluster.log_dir.mkdir(parents=True, exist_ok=True)
    left = [cluster for cluster in found if not _is_mapped(cluster)]
    for cluster in left:
        shutil.rmtree(cluster.folder, ignore_errors=True)
        cluster.folder.mkdir(parents=True)
        (cluster.folder / _NAMES).write_text(_listed(cluster), encoding="utf-8")
    # The largest first, so that none is left over at the end.
    left.sort(key=lambda cluster: -len(cluster.names))
    most = max(len(cluster.names) for cluster in found)
    logger.info("Mapping %d clusters of %d photos at most", len(found), most)
    if len(left) < len(found):
        logger.info("Resuming: %d of them were mapped before", len(found) - len(left))
    total, waiting = (sum(cluster.own for cluster in some) for some in (found, left))
    with tqdm(total=total, initial=total - waiting, desc="Map clusters", unit="image") as progress:
        for cluster in spread(left):
            progress.update(cluster.own)


def _is_mapped(cluster: Cluster) -> bool:
    """Tell whether a cluster of the same photos has been mapped in this one's folder."""
    names = cluster.folder / _NAMES
    if not (cluster.folder / _MODELS).is_dir() or not names.is_file():
        return False
    return names.read_text(encoding="utf-8") == _listed(cluster)


def _listed(cluster: Cluster) -> str:
    return "".join(f"{name}\n" for name in cluster.names)


def map_one(cluster: Cluster) -> None:
    """Map one cluster, in a process of its own.

    Raises:
        DiskHlocError: this machine does not see the cluster's files, or COLMAP crashed.
    """
    for path in (cluster.database_path, cluster.folder):
        if not path.exists():
            raise DiskHlocError(
                f"the worker on {socket.gethostname()} does not see {path}: outputs must be in a "
                "file system that all machines share, under the same path"
            )
    isolated.call(_map, cluster, task=_task(cluster), log_dir=cluster.log_dir)


def _task(cluster: Cluster) -> str:
    return f"mapping {len(cluster.names)} photos of {cluster.database_path}"


def _map(cluster: Cluster) -> None:
    # A worker that is thought to be lost may still be at work on the same cluster.
    with tempfile.TemporaryDirectory(dir=cluster.folder) as scratch:
        attempts, built = Path(scratch) / "attempts", Path(scratch) / "built"
        models = mapping.incremental(
            cluster.database_path,
            attempts,
            fix_intrinsics=cluster.fix_intrinsics,
            only=cluster.names,
            changes=_OPTIONS,
            show=False,
        )
        built.mkdir()
        for number, model in enumerate(models):
            place = built / str(number)
            place.mkdir()
            model.write(place)
        sync_all(built)
        with suppress(OSError):  # that worker was faster
            built.rename(cluster.folder / _MODELS)


def models_of(cluster: Cluster) -> list[pycolmap.Reconstruction]:
    """Return the models of a cluster that is mapped, the largest first."""
    places = sorted((cluster.folder / _MODELS).iterdir(), key=lambda place: int(place.name))
    return [pycolmap.Reconstruction(place) for place in places]
