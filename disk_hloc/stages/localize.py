"""From matches of query photos with the images of a model to the poses of the queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc import plugin
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import cam_from_world, read_model, to_pose
from disk_hloc.io.hloc.features import image_sizes, list_keypoints, read_keypoints
from disk_hloc.io.hloc.matches import (
    find_pair,
    read_matches,
    require_distinct_groups,
    require_made_of,
)
from disk_hloc.io.hloc.queries import read_queries, read_retrieval
from disk_hloc.io.outputs import require_output
from disk_hloc.io.replace import replace_json, replace_text
from disk_hloc.io.store import reading
from disk_hloc.log import logger
from disk_hloc.plugin import engine as engines

# Keypoints of a model and of its features are the same numbers, but for float32.
SAME_KEYPOINT_PX = 1e-3
# The figures of a cluster, and its pose if there is one.
Localized = tuple[dict[str, int], pycolmap.Rigid3d | None]


def main(
    reference_path: Path,
    queries_path: Path,
    retrieval_path: Path,
    feature_path: Path,
    match_path: Path,
    results: Path,
    *,
    engine: str = "auto",
    max_error: float = 12.0,
    covisibility_clustering: bool = False,
    prepend_camera_name: bool = False,
) -> dict[str, Pose]:
    """Localize queries.

    Writes ``results``, a line ``name qw qx qy qz tx ty tz`` for each query (cam_from_world; the
    name without its folders, as visuallocalization.net expects it), and ``<results>_logs.json``:
    for each query the retrieved images, matches, correspondences and inliers. As in hloc, a query
    that cannot be localized gets the pose of its first retrieved image; the log and a warning say
    so.

    Args:
        reference_path: a COLMAP model whose points come from these features.
        queries_path: a list of ``name MODEL width height parameters...``, or a pattern of lists.
        retrieval_path: a pairs file: on each line a query and a retrieved image of the model.
        feature_path: the features file, with the queries.
        match_path: the matches file, with the pairs of ``retrieval_path``.
        results: the file of poses to write.
        engine: ``auto``, ``hloc`` or ``native`` (:mod:`disk_hloc.plugin.engine`).
        max_error: the largest reprojection error of an inlier, in pixels.
        covisibility_clustering: localize with each group of retrieved images that share points,
            and keep the pose with the most inliers.
        prepend_camera_name: write ``camera/name``, the last folder and the name.

    Returns:
        Query name -> pose, for the queries that were localized.

    Raises:
        DiskHlocError: a file is broken, or the model has no points.
    """
    inputs = {
        "queries": queries_path, "retrieved pairs": retrieval_path, "features": feature_path,
        "matches": match_path,
    }  # fmt: skip
    require_output(results, "text", inputs)
    queries = read_queries(queries_path)
    sizes = image_sizes(feature_path, queries)
    retrieved = read_retrieval(retrieval_path)
    model = read_model(reference_path)
    if model.num_points3D() == 0:
        raise DiskHlocError(
            f"the model {reference_path} has no points to localize with: triangulate its features "
            "first"
        )
    engine = engines.choose(engine, "localize")
    if engine == "hloc":
        require_distinct_groups(
            {*queries, *(name for query in retrieved.values() for name in query)}
        )
    localizer = (_Hloc if engine == "hloc" else _Native)(model, feature_path, match_path, max_error)
    ids = {image.name: image_id for image_id, image in model.images.items()}
    unknown = sorted({name for query in retrieved.values() for name in query} - set(ids))
    if unknown:
        logger.warning(
            "%d retrieved images are not in %s and are skipped: %s",
            len(unknown),
            reference_path,
            listing(unknown),
        )
    with_features = set(list_keypoints(feature_path))
    _require_same_features(model, reference_path, feature_path, retrieved, with_features)
    require_made_of(
        match_path,
        (feature_path, feature_path),
        [(query, name) for query in queries for name in retrieved.get(query, [])],
    )
    log: dict[str, dict[str, Any]] = {}
    written: dict[str, pycolmap.Rigid3d] = {}
    with reading(match_path) as matches:
        for name, camera in tqdm(queries.items(), desc="Localize", unit="query"):
            names = [image for image in retrieved.get(name, []) if image in ids]
            matched = [image for image in names if find_pair(matches, name, image)]
            entry: dict[str, Any] = {"localized": False, "database": names}
            log[name] = entry
            if name not in retrieved:
                entry["reason"] = f"{retrieval_path} has no images for it"
            elif not names:
                entry["reason"] = "none of its retrieved images is in the model"
            elif name not in with_features:
                entry["reason"] = f"it is not in {feature_path}"
            elif sizes.get(name, (camera.width, camera.height)) != (camera.width, camera.height):
                entry["reason"] = (
                    f"its camera in {queries_path} has {camera.width} x {camera.height} pixels, "
                    "but {} was extracted from an image of {} x {}; give both of the same image"
                ).format(feature_path, *sizes[name])
            elif not matched:
                entry["reason"] = f"none of its pairs is in {match_path}"
            if names:
                written[name] = cam_from_world(model.images[ids[names[0]]])
            if "reason" in entry:
                continue
            clusters = [[ids[image] for image in matched]]
            if covisibility_clustering:
                clusters = covisible_clusters(model, clusters[0])
            outcomes = [localizer.localize(name, camera, cluster) for cluster in clusters]
            best = max(range(len(clusters)), key=lambda i: outcomes[i][0]["inliers"])
            figures, pose = outcomes[best]
            entry |= {**figures, "cluster": best, "unmatched": sorted(set(names) - set(matched))}
            entry["clusters"] = [
                {"database": [model.images[i].name for i in cluster], **outcome[0]}
                for cluster, outcome in zip(clusters, outcomes, strict=True)
            ]
            if pose is None:
                entry["reason"] = f"no pose agrees with its {figures['correspondences']} points"
            else:
                entry["localized"] = True
                written[name] = pose
    _report(log, reference_path)
    _warn_of_shared_names(written, prepend_camera_name)
    _write_results(results, written, prepend_camera_name)
    about = {
        "model": str(reference_path), "features": str(feature_path), "matches": str(match_path),
        "retrieval": str(retrieval_path), "engine": engine, "max_error": max_error,
        "covisibility_clustering": covisibility_clustering,
    }  # fmt: skip
    log_path = results.with_name(f"{results.name}_logs.json")
    replace_json(log_path, {**about, "queries": log})
    return {name: to_pose(written[name]) for name, entry in log.items() if entry["localized"]}


def _require_same_features(
    model: pycolmap.Reconstruction,
    reference_path: Path,
    feature_path: Path,
    retrieved: Mapping[str, Sequence[str]],
    with_features: Collection[str],
) -> None:
    """Check that a model was made of the features that its images have.

    Raises:
        DiskHlocError: a retrieved image has other keypoints in the model.
    """
    asked = {name for names in retrieved.values() for name in names}
    with reading(feature_path) as features:
        for image in model.images.values():
            if image.name not in asked or image.name not in with_features:
                continue
            keypoints = read_keypoints(features, image.name) + np.float32(0.5)
            points = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
            if len(points) != len(keypoints) or not np.allclose(
                points, keypoints, rtol=0, atol=SAME_KEYPOINT_PX
            ):
                raise DiskHlocError(
                    f"the model {reference_path} was made from other features of {image.name} than "
                    f"{feature_path} has: triangulate these features first"
                )


def covisible_clusters(model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> list[list[int]]:
    """Group images so that each shares a point with another one, the largest group first."""
    left = dict.fromkeys(image_ids)
    clusters = []
    while left:
        queue = [next(iter(left))]
        left.pop(queue[0])
        cluster = []
        while queue:
            cluster.append(queue.pop())
            covisible = {
                element.image_id
                for point2d in model.images[cluster[-1]].points2D
                if point2d.has_point3D()
                for element in model.points3D[point2d.point3D_id].track.elements
            }
            reached = [image_id for image_id in left if image_id in covisible]
            queue.extend(reached)
            for image_id in reached:
                left.pop(image_id)
        clusters.append(cluster)
    return sorted(clusters, key=len, reverse=True)


class _Native:
    """Absolute poses by pycolmap, from the points that matched keypoints see."""

    def __init__(
        self, model: pycolmap.Reconstruction, features: Path, matches: Path, max_error: float
    ) -> None:
        self.model, self.features, self.matches, self.max_error = (
            model, features, matches, max_error,
        )  # fmt: skip
        self.point_ids: dict[int, np.ndarray] = {}

    def localize(self, name: str, camera: pycolmap.Camera, image_ids: Sequence[int]) -> Localized:
        with reading(self.features) as features:
            # COLMAP's origin is the corner of a pixel.
            keypoints = read_keypoints(features, name).astype(np.float64) + 0.5
        pairs: dict[tuple[int, int], None] = {}
        num_matches = 0
        with reading(self.matches) as file:
            for image_id in image_ids:
                seen = self._seen(file, name, len(keypoints), image_id)
                num_matches += len(seen)
                pairs.update(dict.fromkeys(map(tuple, seen.tolist())))
        figures = {"matches": num_matches, "correspondences": len(pairs), "inliers": 0}
        if len(pairs) < 4:
            return figures, None
        index, point_ids = (list(part) for part in zip(*pairs, strict=True))
        found = pycolmap.estimate_and_refine_absolute_pose(
            keypoints[index],
            np.array([self.model.points3D[point_id].xyz for point_id in point_ids]),
            camera,
            estimation_options={"ransac": {"max_error": self.max_error}},
        )
        if found is None:
            return figures, None
        return {**figures, "inliers": int(found["num_inliers"])}, found["cam_from_world"]

    def _seen(self, file: h5py.File, name: str, count: int, image_id: int) -> np.ndarray:
        """Return (K, 2): a keypoint of the query, and the point that its match in an image sees."""
        image = self.model.images[image_id]
        if image_id not in self.point_ids:
            self.point_ids[image_id] = np.array(
                [point.point3D_id if point.has_point3D() else -1 for point in image.points2D], int
            )
        point_ids = self.point_ids[image_id]
        matches = read_matches(file, name, image.name)
        if matches is None:
            return np.zeros((0, 2), int)
        if len(matches) and matches[:, 0].max() >= count:
            raise DiskHlocError(f"{self.matches} was made from other features than {self.features}")
        if len(matches) and matches[:, 1].max() >= len(point_ids):
            raise DiskHlocError(
                f"{self.matches} was made from other features than the model: {image.name} has "
                f"{len(point_ids)} keypoints in the model"
            )
        seen = np.stack([matches[:, 0], point_ids[matches[:, 1]]], axis=1)
        return seen[seen[:, 1] >= 0]


class _Hloc:
    """Absolute poses by hloc's ``pose_from_cluster``."""

    def __init__(
        self, model: pycolmap.Reconstruction, features: Path, matches: Path, max_error: float
    ) -> None:
        self.hloc = plugin.hloc_module("localize_sfm", needed_for="the hloc engine")
        config = {"estimation": {"ransac": {"max_error": max_error}}}
        self.localizer = self.hloc.QueryLocalizer(model, config)
        self.features, self.matches = features, matches

    def localize(self, name: str, camera: pycolmap.Camera, image_ids: Sequence[int]) -> Localized:
        found, log = self.hloc.pose_from_cluster(
            self.localizer, name, camera, list(image_ids), self.features, self.matches
        )
        figures = {
            "matches": int(log["num_matches"]),
            "correspondences": len(log["points3D_ids"]),
            "inliers": 0,
        }
        if found is None:
            return figures, None
        return {**figures, "inliers": int(found["num_inliers"])}, found["cam_from_world"]


def _report(log: Mapping[str, Mapping[str, Any]], reference_path: Path) -> None:
    failed = {name: entry["reason"] for name, entry in log.items() if not entry["localized"]}
    logger.info(
        "%d of %d queries localized in %s", len(log) - len(failed), len(log), reference_path
    )
    for name, reason in failed.items():
        logger.warning("%s was not localized: %s", name, reason)


def _shown(name: str, prepend_camera_name: bool) -> str:
    """Return a query's name as the benchmarks expect it in the results."""
    return "/".join(name.split("/")[-2 if prepend_camera_name else -1 :])


def _warn_of_shared_names(names: Iterable[str], prepend_camera_name: bool) -> None:
    """Warn of queries that cannot be told apart in the results."""
    by_shown: dict[str, list[str]] = {}
    for name in names:
        by_shown.setdefault(_shown(name, prepend_camera_name), []).append(name)
    shared = [name for alike in by_shown.values() if len(alike) > 1 for name in alike]
    if shared:
        logger.warning(
            "%d queries have the name of another one in the results, which leave out their "
            "folders%s: %s",
            len(shared),
            " but the last" if prepend_camera_name else " (--prepend-camera-name keeps the last)",
            listing(shared),
        )


def _write_results(
    path: Path, poses: Mapping[str, pycolmap.Rigid3d], prepend_camera_name: bool
) -> None:
    lines = []
    for name, pose in poses.items():
        shown = _shown(name, prepend_camera_name)
        found = to_pose(pose)
        values = [*found.quaternion, *found.translation]
        lines.append(" ".join([shown, *(repr(float(value)) for value in values)]))
    replace_text(path, "".join(f"{line}\n" for line in lines))
