"""Map thousands of photos: in clusters, each in a process of its own, which are then joined.

Incremental mapping adjusts all photos again and again while a model grows. Clusters of a bounded
size grow in bounded time, at the same time on all cores or machines, and all photos are adjusted
together once, at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pycolmap
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.colmap import isolated
from disk_hloc.io.replace import sync_all
from disk_hloc.log import logger

from . import adjust, joining, mapping
from .clusters import clusters

# Photos of a cluster, and photos that a cluster takes from a neighbour.
CLUSTER_SIZE = 100
SHARED = 8
_MODELS = "models"
_NAMES = "names.txt"
# Other clusters have the other cores. Colours, for which photos are read, come last. The joined
# model is adjusted twice, so that one refinement of a cluster does: 4 s less of 12.
_CLUSTER = {"num_threads": 1, "extract_colors": False, "ba_global_max_refinements": 1}
# The joined model, which is adjusted before and after, gets photos and tracks.
_JOINED = {"ba_global_max_refinements": 0}
# It is adjusted once more when it has them.
_FIRST_ITERATIONS = 5


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


def divide(
    database_path: Path, folder: Path, log_dir: Path, *, fix_intrinsics: bool
) -> list[Cluster]:
    """Divide the photos of a verified database; photos of one frame of a rig stay together.

    Args:
        database_path: the database.
        folder: for the clusters' files.
        log_dir: for COLMAP's logs.
        fix_intrinsics: keep the cameras' parameters.
    """
    images = colmap.read_frames(database_path)
    frame_of = {image_id: frame for frame, inside in images.items() for image_id, _ in inside}
    matches: Counter[tuple[int, int]] = Counter()
    for pair_id, inliers in mapping.verified_pairs(database_path).items():
        first, second = sorted(frame_of[i] for i in colmap.pair_images(pair_id))
        if first != second:
            matches[first, second] += inliers
    found = []
    for number, (own, taken) in enumerate(clusters(matches, CLUSTER_SIZE, SHARED)):
        names = sorted(name for frame in (*own, *taken) for _, name in images[frame])
        count = sum(len(images[frame]) for frame in own)
        place = folder / str(number)
        found.append(Cluster(tuple(names), count, database_path, place, log_dir, fix_intrinsics))
    return found


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
            cluster.folder,
            attempts,
            fix_intrinsics=cluster.fix_intrinsics,
            only=cluster.names,
            changes=_CLUSTER,
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


def join(found: Sequence[Cluster], image_dir: Path, scratch: Path) -> list[pycolmap.Reconstruction]:
    """Join the models of clusters, adjust them together, and register photos that are left.

    The model that is returned has new tracks; it is not adjusted to them.

    Args:
        found: clusters that are mapped.
        image_dir: the photos.
        scratch: an existing folder for files in between.

    Returns:
        The models, the largest first; none if no cluster has one.
    """
    models = [
        pycolmap.Reconstruction(place)
        for cluster in found
        for place in sorted((cluster.folder / _MODELS).iterdir())
    ]
    joined = joining.join(models)
    sizes = ", ".join(str(model.num_reg_images()) for model in joined)
    logger.info(
        "%d models of clusters, joined: %s photos; adjusting all together", len(models), sizes
    )
    if not joined:
        return []
    start, grown = scratch / "start", scratch / "grown"
    start.mkdir()
    grown.mkdir()
    fix_intrinsics, database_path = found[0].fix_intrinsics, found[0].database_path
    adjust.main(joined[0], fix_intrinsics=fix_intrinsics, max_iterations=_FIRST_ITERATIONS)
    joined[0].write(start)
    count = mapping.num_connected_images(database_path)
    options = {**mapping.options(count, fix_intrinsics), **_JOINED}
    largest = mapping.run(database_path, image_dir, grown, count, options, start, show=False)
    for model in largest:
        joining.drop_wrong(model, adjust.MAX_ERROR_PX)
    return mapping.without_parts([*largest, *joined[1:]])
