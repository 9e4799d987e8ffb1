"""Map thousands of photos: in clusters (:mod:`.cluster_mapping`), which are then joined.

Incremental mapping adjusts all photos again and again while a model grows. Clusters of a bounded
size grow in bounded time, at the same time on all cores or machines, and all photos are adjusted
together once, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pycolmap

from disk_hloc.io import colmap
from disk_hloc.log import logger

from . import adjust, cluster_mapping, joining, mapping
from .cluster_mapping import Cluster
from .clusters import clusters

# The joined model, which is adjusted before and after, gets photos and tracks.
_JOINED = {"ba_global_max_refinements": 0}
# It is adjusted once more when it has them.
_FIRST_ITERATIONS = 5


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
    size, shared = cluster_mapping.CLUSTER_SIZE, cluster_mapping.SHARED
    found = []
    for number, (own, taken) in enumerate(clusters(matches, size, shared)):
        names = sorted(name for frame in (*own, *taken) for _, name in images[frame])
        count = sum(len(images[frame]) for frame in own)
        place = folder / str(number)
        found.append(Cluster(tuple(names), count, database_path, place, log_dir, fix_intrinsics))
    return found


def join(found: Sequence[Cluster], scratch: Path) -> list[pycolmap.Reconstruction]:
    """Join the models of clusters, adjust them together, and register photos that are left.

    The model that is returned has new tracks; it is not adjusted to them.

    Args:
        found: clusters that are mapped.
        scratch: an existing folder for files in between.

    Returns:
        The models, the largest first; none if no cluster has one.
    """
    models = [model for cluster in found for model in cluster_mapping.models_of(cluster)]
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
    largest = mapping.run(database_path, grown, count, options, start, show=False)
    for model in largest:
        joining.drop_wrong(model, adjust.MAX_ERROR_PX)
    return mapping.without_parts([*largest, *joined[1:]])
