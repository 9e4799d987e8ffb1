"""From a model, its features and photos to the index of a map."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pycolmap
from PIL import Image
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.exif import device_of, read_exif
from disk_hloc.io.hloc.features import read_features
from disk_hloc.io.hloc.global_features import read_globals
from disk_hloc.io.images import ImageReadError, read_image, resize_image
from disk_hloc.io.map_folder import MapFolder
from disk_hloc.io.map_index import MapIndex, write_index
from disk_hloc.io.masks import Masks
from disk_hloc.io.replace import replaced
from disk_hloc.io.store import reading
from disk_hloc.models import turn_votes
from disk_hloc.models.turn_votes import Oriented

from . import map_agreement

# Of the longer side of a thumbnail.
THUMBNAIL_PX = 640
# Keypoints of a model and of its features are the same numbers, but for float32.
_SAME_KEYPOINT_PX = 1e-3


def main(
    made: MapFolder,
    image_dir: Path,
    *,
    turns: Mapping[str, int],
    masks: Mapping[str, object] | None = None,
    former: MapIndex | None = None,
) -> MapIndex:
    """Write the index of a map's model, and small versions of its photos.

    Args:
        made: the map; its model, features and global descriptors exist.
        image_dir: the photos; those of ``former`` are not looked at.
        turns: name -> quarters by which a photo was turned for extraction.
        masks: where keypoints may be.
        former: the index of the map before photos were added.

    Returns:
        The index.

    Raises:
        DiskHlocError: the model was made from other features, or a photo cannot be read.
    """
    model = colmap.read_model(made.model)
    images = sorted(colmap.registered_images(model), key=lambda image: image.name)
    names = [image.name for image in images]
    known = {} if former is None else {name: i for i, name in enumerate(former.names)}
    looks = _looks(made, image_dir, names, masks, former, known)
    point_ids = np.array(sorted(model.points3D), np.int64)
    with reading(made.features) as features, reading(made.global_descriptors) as descriptors:
        parts = [_seen(model, image, features, point_ids) for image in images]
        vectors = read_globals(descriptors, names)
    points = [model.points3D[int(point_id)] for point_id in point_ids]
    poses = [colmap.to_pose(colmap.cam_from_world(image)) for image in images]
    index = MapIndex(
        names=names,
        sizes=np.array([_size(model, image) for image in images], np.int64),
        poses=np.array([np.concatenate([p.quaternion, p.translation]) for p in poses]),
        turns=np.array([turns.get(name, 0) for name in names], np.int64),
        starts=np.cumsum([0, *(len(rows) for _, _, rows in parts)]).astype(np.int64),
        keypoints=np.concatenate([keypoints for keypoints, _, _ in parts]),
        descriptors=np.concatenate([found for _, found, _ in parts]),
        points=np.concatenate([rows for _, _, rows in parts]),
        xyz=np.array([point.xyz for point in points]).reshape(-1, 3),
        colors=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        point_ids=point_ids,
        global_descriptors=vectors,
        look_starts=np.cumsum([0, *(len(look.places) for look in looks)]).astype(np.int64),
        look_places=np.concatenate([look.places for look in looks]),
        look_octaves=np.concatenate([look.octaves for look in looks]),
        look_angles=np.concatenate([look.angles for look in looks]),
        look_descriptors=np.concatenate([look.descriptors for look in looks]),
        cameras={
            camera_id: {
                "model": camera.model.name,
                "width": camera.width,
                "height": camera.height,
                "params": [float(value) for value in camera.params],
            }
            for camera_id, camera in model.cameras.items()
        },
        camera_ids=[image.camera_id for image in images],
        devices=[
            former.devices[known[name]]
            if former is not None and name in known
            else device_of(read_exif(image_dir / name), _size(model, image))
            for name, image in zip(names, images, strict=True)
        ],
    )
    index = replace(index, agreement=map_agreement.measure(made, index))
    write_index(index, made.index)
    return index


def _size(model: pycolmap.Reconstruction, image: pycolmap.Image) -> tuple[int, int]:
    camera = model.cameras[image.camera_id]
    return camera.width, camera.height


def _seen(
    model: pycolmap.Reconstruction,
    image: pycolmap.Image,
    features: h5py.File,
    point_ids: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (K, 2) keypoints, (K, D) descriptors and (K,) rows of points that an image sees.

    A model that was completed with other features has their keypoints after those of the file.
    """
    arrays = read_features(features, image.name)
    keypoints, descriptors = arrays["keypoints"], arrays["descriptors"]
    found = np.array([point.xy for point in image.points2D]).reshape(-1, 2)[: len(keypoints)]
    same = len(found) == len(keypoints) and np.allclose(
        found - 0.5, keypoints, rtol=0, atol=_SAME_KEYPOINT_PX
    )
    if not same:
        raise DiskHlocError(
            f"the model has other keypoints of {image.name} than {features.filename}: triangulate "
            "these features first"
        )
    ids = np.array(
        [
            point.point3D_id if point.has_point3D() else -1
            for point in image.points2D[: len(keypoints)]
        ],
        np.int64,
    )
    seeing = np.flatnonzero(ids >= 0)
    return (
        keypoints[seeing].astype(np.float32),
        np.ascontiguousarray(descriptors[:, seeing].T.astype(np.float16)),
        np.searchsorted(point_ids, ids[seeing]).astype(np.int64),
    )


def _looks(
    made: MapFolder,
    image_dir: Path,
    names: Sequence[str],
    masks: Mapping[str, object] | None,
    former: MapIndex | None,
    known: Mapping[str, int],
) -> list[Oriented]:
    """Describe each photo in a small size, and write its thumbnail, unless it was there before."""
    sources = None if masks is None else Masks(masks)

    def look(name: str) -> Oriented:
        if former is not None and name in known:
            return Oriented(*former.look(known[name]))
        try:
            photo = read_image(image_dir / name)
        except ImageReadError as error:
            raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
        height, width = photo.shape[:2]
        _write_thumbnail(photo, made.thumbnail(name))
        gray = np.asarray(Image.fromarray(photo).convert("L"))
        mask = None if sources is None else sources(name, (width, height))
        return turn_votes.describe(gray, mask)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        described = pool.map(look, names)
        return list(tqdm(described, total=len(names), desc="Index", unit="image"))


def _write_thumbnail(photo: np.ndarray, path: Path) -> None:
    height, width = photo.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = resize_image(photo, size, "cv2_area") if scale < 1 else photo
    with replaced(path) as partial:
        Image.fromarray(np.ascontiguousarray(small)).save(partial, format="JPEG", quality=85)
