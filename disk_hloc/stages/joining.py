"""Join models that share photos: bring them into one frame, and merge their points.

Points that a photo sees at one keypoint in both models say how these lie; where they disagree, the
models stay apart. An adjustment of all is left to the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pycolmap
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from disk_hloc.geometry import align
from disk_hloc.io import colmap

from . import mapping

# Points that two models share, and that agree, for them to be joined.
_LEAST_POINTS = 15
# They agree if they are this near, relative to the median distance of points from their cameras.
_NEAR = 0.03
_LEAST_SHARE = 0.5
_ROUNDS = 20
# COLMAP's triangulation allows 4 px, and models that were joined are some pixels off at the seams.
# Far more is a point or a photo in a wrong place, whose squared error would bend the whole model.
_MAX_ERROR_PX = 16.0
_MIN_ANGLE = 1.5
# A photo, or frame of a rig, that sees fewer points has lost its hold; COLMAP needs as many to
# register one.
_LEAST_OBSERVATIONS = 30


@dataclass(frozen=True, eq=False)
class _Part:
    """A model as arrays.

    Attributes:
        model: the model.
        observations: (K, 3) image id, keypoint, and index of the point.
        photos: (I,) the image ids among them, sorted.
        points: (P, 3) in the model's frame.
        depth: median distance of points from the cameras that see them.
    """

    model: pycolmap.Reconstruction
    observations: np.ndarray
    photos: np.ndarray
    points: np.ndarray
    depth: float


@dataclass(frozen=True)
class _Placed:
    """A part, and the similarity that brings it into the joint frame."""

    part: _Part
    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    @property
    def points(self) -> np.ndarray:
        return self.scale * self.part.points @ self.rotation.T + self.translation


def join(models: Sequence[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Join the models that share enough points; the others are returned as they are.

    Args:
        models: models of one database; those without points are left out.

    Returns:
        The models, the largest first. Of a photo or camera that several have, that of the largest
        counts.
    """
    parts = [_part(model) for model in mapping.largest_first(models)]
    shared = cache(_shared)
    joined = []
    while parts:
        group = [_Placed(parts.pop(0), 1.0, np.eye(3), np.zeros(3))]
        while (placed := _next(group, parts, shared)) is not None:
            group.append(placed)
            parts = [part for part in parts if part is not placed.part]
        joined.append(group[0].part.model if len(group) == 1 else _merged(group))
    return mapping.largest_first(joined)


def _part(model: pycolmap.Reconstruction) -> _Part:
    points, observations, distances = [], [], []
    centers = {
        image.image_id: image.projection_center() for image in colmap.registered_images(model)
    }
    for number, point in enumerate(model.points3D.values()):
        points.append(point.xyz)
        elements = point.track.elements
        observations += [(one.image_id, one.point2D_idx, number) for one in elements]
        distances.append(np.linalg.norm(point.xyz - centers[elements[0].image_id]))
    seen = np.array(observations, np.int64).reshape(-1, 3)
    return _Part(
        model,
        seen,
        np.unique(seen[:, 0]),
        np.array(points).reshape(-1, 3),
        float(np.median(distances)),
    )


def _keys(observations: np.ndarray) -> np.ndarray:
    """Return (K,) the image and keypoint of each observation, in one number."""
    return (observations[:, 0] << 32) | observations[:, 1]


def _shared(first: _Part, second: _Part) -> np.ndarray:
    """Return (N, 2) the points of two parts that one keypoint sees, of each such keypoint."""
    photos = np.intersect1d(first.photos, second.photos, assume_unique=True)
    some = [part.observations[np.isin(part.observations[:, 0], photos)] for part in (first, second)]
    _, at0, at1 = np.intersect1d(_keys(some[0]), _keys(some[1]), return_indices=True)
    return np.stack([some[0][at0, 2], some[1][at1, 2]], axis=1)


def _next(
    group: Sequence[_Placed],
    parts: Sequence[_Part],
    shared: Callable[[_Part, _Part], np.ndarray],
) -> _Placed | None:
    """Place one of the parts in the frame of a group: the first that agrees, the surest first."""
    candidates = []
    for part in parts:
        both = [shared(placed.part, part) for placed in group]
        # A point counts once, however many photos share it.
        theirs, once = np.unique(np.concatenate(both)[:, 1], return_index=True)
        ours = [placed.points[some[:, 0]] for placed, some in zip(group, both, strict=True)]
        candidates.append((part, theirs, np.concatenate(ours)[once]))
    candidates.sort(key=lambda candidate: -len(candidate[1]))
    for part, theirs, targets in candidates:
        found = _alignment(part.points[theirs], targets, part.depth)
        if found is not None:
            return _Placed(part, *found)
    return None


def _alignment(
    source: np.ndarray, target: np.ndarray, depth: float
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Return the similarity of most points by least trimmed squares; None if too few agree.

    Rousseeuw, "Least median of squares regression", JASA 1984: the half that agrees best decides.
    """
    if len(source) < _LEAST_POINTS:
        return None
    kept = np.arange(len(source))
    for _ in range(_ROUNDS):
        scale, rotation, translation = align(source[kept], target[kept])
        error = np.linalg.norm(scale * source @ rotation.T + translation - target, axis=1)
        best = np.argsort(error, kind="stable")[: max(_LEAST_POINTS, len(source) // 2)]
        if np.array_equal(best, kept):
            break
        kept = best
    near = error <= _NEAR * scale * depth
    if near.sum() < max(_LEAST_POINTS, _LEAST_SHARE * len(source)):
        return None
    return align(source[near], target[near])


def _merged(group: Sequence[_Placed]) -> pycolmap.Reconstruction:
    """Return one model of all parts of a group."""
    model = pycolmap.Reconstruction()
    for placed in group:
        similarity = pycolmap.Sim3d(
            placed.scale, pycolmap.Rotation3d(placed.rotation), placed.translation
        )
        placed.part.model.transform(similarity)
        _add_photos(model, placed.part.model)
    _add_points(model, group)
    drop_wrong(model, _MAX_ERROR_PX)
    _drop_photos(model)
    return model


def drop_wrong(model: pycolmap.Reconstruction, max_error: float) -> None:
    """Drop observations that are more than ``max_error`` pixels off, or behind a camera."""
    manager = pycolmap.ObservationManager(model)
    manager.filter_observations_with_negative_depth()
    manager.filter_all_points3D(max_error, _MIN_ANGLE)


def _drop_photos(model: pycolmap.Reconstruction) -> None:
    """Drop photos that see next to nothing."""
    seen: Counter[int] = Counter()
    for image in colmap.registered_images(model):
        seen[image.frame_id] += image.num_points3D
    for frame_id, count in seen.items():
        if count < _LEAST_OBSERVATIONS:
            model.deregister_frame(frame_id)


def _add_photos(model: pycolmap.Reconstruction, other: pycolmap.Reconstruction) -> None:
    """Add what another model has and this one has not, without its points."""
    for camera_id, camera in other.cameras.items():
        if not model.exists_camera(camera_id):
            model.add_camera(camera)
    for rig_id, rig in other.rigs.items():
        if not model.exists_rig(rig_id):
            model.add_rig(rig)
    new = [frame_id for frame_id in other.reg_frame_ids() if not model.exists_frame(frame_id)]
    for frame_id in new:
        model.add_frame(colmap.bare_frame(other.frames[frame_id]))
    for image in other.images.values():
        if image.frame_id in new:
            model.add_image(colmap.bare_image(image))
    for frame_id in new:
        model.register_frame(frame_id)


def _add_points(model: pycolmap.Reconstruction, group: Sequence[_Placed]) -> None:
    """Add the points of all parts; one that several parts have is their mean."""
    sizes = [len(placed.part.points) for placed in group]
    offsets = np.cumsum([0, *sizes])
    xyz = np.concatenate([placed.points for placed in group])
    keys = np.concatenate([_keys(placed.part.observations) for placed in group])
    point_of = np.concatenate(
        [
            placed.part.observations[:, 2] + offset
            for placed, offset in zip(group, offsets, strict=False)
        ]
    )
    track_of = same_points(keys, point_of, np.repeat(np.arange(len(group)), sizes))
    counts = np.bincount(track_of)
    mean = np.stack([np.bincount(track_of, axis) / counts for axis in xyz.T], axis=1)
    tracks, where = _each_key_once(keys, track_of[point_of])
    bounds = np.searchsorted(tracks, np.arange(len(counts) + 1))
    image_ids, keypoints = (where >> 32).tolist(), (where & 0xFFFFFFFF).tolist()
    for number in range(len(counts)):
        elements = [
            pycolmap.TrackElement(image_ids[i], keypoints[i])
            for i in range(bounds[number], bounds[number + 1])
        ]
        if len(elements) > 1:
            model.add_point3D(mean[number], pycolmap.Track(elements))


def same_points(keys: np.ndarray, point_of: np.ndarray, part_of: np.ndarray) -> np.ndarray:
    """Tell which points of several models are one.

    Of two models, two points are one if each shares more keypoints with the other than with any
    other point. To share one keypoint is not enough: a single wrong observation would make one of
    two points, and of a chain of them hundreds.

    Args:
        keys: (K,) the keypoint of each observation.
        point_of: (K,) its point.
        part_of: (P,) the model of each point.

    Returns:
        (P,) a number for each point, the same for those that are one, from 0 on.
    """
    num = len(part_of)
    _, seen = np.unique(keys, return_inverse=True)
    observed = csr_array((np.ones(len(keys), np.int32), (point_of, seen)))
    shared = (observed @ observed.T).tocoo()
    apart = part_of[shared.row] != part_of[shared.col]
    first, second = shared.row[apart].astype(np.int64), shared.col[apart].astype(np.int64)
    other = part_of[second]
    order = np.lexsort((second, -shared.data[apart], other, first))
    first, second, other = first[order], second[order], other[order]
    is_best = np.ones(len(first), bool)
    is_best[1:] = (first[1:] != first[:-1]) | (other[1:] != other[:-1])
    first, second = first[is_best], second[is_best]
    mutual = np.isin(first * num + second, second * num + first)
    links = coo_array(
        (np.ones(mutual.sum(), bool), (first[mutual], second[mutual])), shape=(num, num)
    )
    return connected_components(links, directed=False)[1]


def _each_key_once(keys: np.ndarray, track_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each keypoint to the track for which most models observe it, then to the longest.

    Args:
        keys, track_of: (K,) observations; several models may have the same one.

    Returns:
        The tracks, sorted, and their keypoints.
    """
    order = np.lexsort((keys, track_of))
    tracks, keys = track_of[order], keys[order]
    starts = np.flatnonzero(np.diff(tracks, prepend=-1) | np.diff(keys, prepend=-1))
    claims = np.diff(starts, append=len(keys))
    tracks, keys = tracks[starts], keys[starts]
    lengths = np.bincount(tracks)[tracks]
    order = np.lexsort((tracks, -lengths, -claims, keys))
    _, best = np.unique(keys[order], return_index=True)
    kept = np.sort(order[best])
    return tracks[kept], keys[kept]
