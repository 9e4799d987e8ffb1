"""New photos in a model that stays as it is.

COLMAP's mapper goes on from the model, and what it finds of the new photos is then added to the
model as it was: their poses and cameras, their observations of points that are there, and new
points. So the poses of before, the points' observations of before, and the points that no new photo
sees stay what they were, to the bit; a point that new photos see moves where they agree on it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.colmap import isolated
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.log import logger

from . import adjust, coloring, mapping, missing, verify

# COLMAP's largest error of an observation (filter_max_reproj_error).
_MAX_ERROR_PX = 4.0
# Of the mapper's adjustments of all points, which are not used: one is made at its end.
_LITTLE: dict[str, Any] = {
    "ba_global_frames_ratio": 1e3,
    "ba_global_points_ratio": 1e3,
    "ba_global_frames_freq": 1_000_000,
    "ba_global_points_freq": 1_000_000_000,
    "ba_global_max_refinements": 1,
    "ba_global_max_num_iterations": 2,
    "multiple_models": False,
}


@dataclass(frozen=True)
class NewPhotos:
    """What a model is to grow by.

    Attributes:
        image_dir: the folder of the photos.
        names: their names, none of which the model has.
        pairs: those of the new photos, with photos of the model and among each other.
        features: the features of all photos of the pairs.
        matches: the matches of the pairs.
        camera_ids: name -> the model's camera that took it, of some.
    """

    image_dir: Path
    names: Sequence[str]
    pairs: Sequence[Pair]
    features: Path
    matches: Path
    camera_ids: Mapping[str, int]


class NothingAdded(DiskHlocError):
    """No new photo could be registered; the reasons are the argument."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        super().__init__(self.reasons)

    def __str__(self) -> str:
        listed = "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items())
        return f"none of {len(self.reasons)} photos could be added: {listed}"


def main(
    model_dir: Path,
    output: Path,
    new: NewPhotos,
    *,
    camera: str | None = None,
    fix_intrinsics: bool = False,
    verbose: bool = False,
) -> dict[str, str]:
    """Register new photos in a model, and write the larger model to a new folder.

    Args:
        model_dir: a model with its ``database.db``, and ``georeference.json`` if it is in metres.
        output: the folder for the same of the larger model.
        new: the photos.
        camera: of all photos that have none in ``new.camera_ids``, as
            :func:`disk_hloc.io.colmap.image_reader_options` takes it; None is as of EXIF data.
        fix_intrinsics: keep the parameters of the new cameras. Those of the model always stay.
        verbose: show COLMAP's own output.

    Returns:
        New photo -> why it could not be registered.

    Raises:
        NothingAdded: none could be.
        DiskHlocError: there is no sound model, COLMAP cannot read a photo, or no space.
    """
    with colmap.building(output) as folder:
        if (model_dir / colmap.GEOREFERENCE).is_file():
            shutil.copy2(model_dir / colmap.GEOREFERENCE, folder)
        return isolated.call(
            _grow, model_dir, folder, new, camera, fix_intrinsics,
            task=f"adding photos to {model_dir.parent}", log_dir=output, verbose=verbose,
        )  # fmt: skip


def _grow(
    model_dir: Path, folder: Path, new: NewPhotos, camera: str | None, fix_intrinsics: bool
) -> dict[str, str]:
    model = colmap.read_model(model_dir)
    database_path = folder / colmap.DATABASE
    colmap.copy_database(model_dir / colmap.DATABASE, database_path)
    registered = {image.name: image.image_id for image in colmap.registered_images(model)}
    colmap.keep_images(database_path, registered.values())
    ids = colmap.add_images(database_path, new.image_dir, new.names, new.camera_ids, camera)
    best_first = colmap.import_features_and_matches(
        database_path, registered | ids, new.features, new.pairs, new.matches, known=registered
    )
    verify.main(database_path, new.pairs, best_first=best_first)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        grown = _map(
            model_dir, set(model.cameras), database_path, Path(scratch),
            [*registered, *ids], fix_intrinsics,
        )  # fmt: skip
    cameras, points = set(model.cameras), set(model.points3D)
    added = add_to(model, grown, set(ids.values())) if grown is not None else []
    unregistered = missing.reasons(
        new.names, [] if grown is None else [grown], database_path, unreadable={}
    )
    if not added:
        raise NothingAdded(unregistered)
    refine(model, set(added), points, set(model.cameras) if fix_intrinsics else cameras)
    coloring.main(model, new.image_dir, set(new.names))
    colmap.write_model(model, folder)
    logger.info("%d of %d photos registered", len(added), len(ids))
    return unregistered


def _map(
    model_dir: Path,
    cameras: Collection[int],
    database_path: Path,
    scratch: Path,
    names: Sequence[str],
    fix_intrinsics: bool,
) -> pycolmap.Reconstruction | None:
    """Have COLMAP's mapper go on; return its model, if it has one."""
    chosen = {
        **mapping.options(len(names), fix_intrinsics),
        **_LITTLE,
        "image_names": list(names),
        "fix_existing_frames": True,
        "constant_cameras": set(cameras),
    }
    models = mapping.run(database_path, scratch, len(names), chosen, model_dir)
    return models[0] if models else None


def add_to(
    model: pycolmap.Reconstruction, grown: pycolmap.Reconstruction, image_ids: Collection[int]
) -> list[int]:
    """Add new images of a grown model to the model that it grew from.

    A point of the grown model that joins several of the former model, or splits one, does not: new
    observations go to the former point that most of its track belongs to.

    Args:
        model: changed in place.
        grown: the same images with the same ids, and new ones.
        image_ids: of the new images.

    Returns:
        The ids of those that have a pose and see points.
    """
    seeing = [
        image.image_id
        for image in colmap.registered_images(grown)
        if image.image_id in image_ids and image.num_points3D > 0
    ]
    for image_id in seeing:
        _add_image(model, grown, grown.images[image_id])
    added = set(seeing)
    for point_id in sorted(grown.points3D):
        point = grown.points3D[point_id]
        elements = point.track.elements
        fresh = [e for e in elements if e.image_id in added]
        if not fresh:
            continue
        others = [e for e in elements if e.image_id not in image_ids]
        former: Counter[int] = Counter()
        free = []
        for element in others:
            seen = model.images[element.image_id].points2D[element.point2D_idx]
            if seen.has_point3D():
                former[seen.point3D_id] += 1
            else:
                free.append(element)
        if former:
            target = min(former, key=lambda i: (-former[i], i))
            for element in fresh:
                model.add_observation(target, element)
        elif len(fresh) + len(free) > 1:
            model.add_point3D(point.xyz, pycolmap.Track([*fresh, *free]), point.color)
    return seeing


def _add_image(
    model: pycolmap.Reconstruction, grown: pycolmap.Reconstruction, image: pycolmap.Image
) -> None:
    """Copy a registered image with its camera, rig and frame, and without its points."""
    frame = grown.frames[image.frame_id]
    if image.camera_id not in model.cameras:
        model.add_camera(grown.cameras[image.camera_id])
    if frame.rig_id not in model.rigs:
        model.add_rig(grown.rigs[frame.rig_id])
    bare = pycolmap.Frame(frame_id=frame.frame_id, rig_id=frame.rig_id)
    bare.add_data_id(image.data_id)
    bare.rig_from_world = frame.rig_from_world
    model.add_frame(bare)
    copy = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
    copy.points2D = pycolmap.Point2DList([pycolmap.Point2D(point.xy) for point in image.points2D])
    copy.frame_id = frame.frame_id
    model.add_image(copy)
    model.register_frame(frame.frame_id)


def refine(
    model: pycolmap.Reconstruction,
    image_ids: Collection[int],
    former_points: Collection[int],
    fixed_cameras: Collection[int],
) -> None:
    """Adjust new images and what they see, and drop their observations that then do not fit.

    Args:
        model: changed in place. No other pose changes, and no observation of another image is lost.
        image_ids: the new images.
        former_points: points that were there without them.
        fixed_cameras: cameras whose parameters stay.
    """
    seen = colmap.points_seen_by(model, image_ids)
    before = {i: np.array(model.points3D[i].xyz) for i in seen.intersection(former_points)}
    adjust.some(model, image_ids, fixed_cameras)
    for image_id in image_ids:
        for index in _far_off(model, model.images[image_id]):
            # The last but one observation takes its point with it.
            if model.images[image_id].points2D[index].has_point3D():
                model.delete_observation(image_id, index)
    model.update_point_3d_errors()
    for point_id in seen.intersection(model.points3D):
        point = model.points3D[point_id]
        fits = point.error <= _MAX_ERROR_PX
        if point_id not in before:
            if not fits:
                model.delete_point3D(point_id)
            continue
        fresh = [e for e in point.track.elements if e.image_id in image_ids]
        if not fits:
            for element in fresh:
                model.delete_observation(element.image_id, element.point2D_idx)
        if not fits or not fresh:
            point.xyz = before[point_id]
    model.update_point_3d_errors()


def _far_off(model: pycolmap.Reconstruction, image: pycolmap.Image) -> list[int]:
    """Return which keypoints of an image are far from where the points that they see are."""
    camera, pose = model.cameras[image.camera_id], colmap.cam_from_world(image)
    indices = [i for i, point in enumerate(image.points2D) if point.has_point3D()]
    if not indices:
        return []
    xyz = np.array([model.points3D[image.points2D[i].point3D_id].xyz for i in indices])
    found = np.array([image.points2D[i].xy for i in indices])
    in_camera = xyz @ pose.rotation.matrix().T + pose.translation
    expected = np.asarray(camera.img_from_cam(in_camera), np.float64).reshape(-1, 2)
    near = np.linalg.norm(expected - found, axis=1) <= _MAX_ERROR_PX
    if colmap.is_planar(camera):
        near &= in_camera[:, 2] > 0
    return [i for i, is_near in zip(indices, near, strict=True) if not is_near]
