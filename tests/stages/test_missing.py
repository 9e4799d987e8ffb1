"""Why a photo is missing is read from the database and the models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from disk_hloc.io.colmap import with_keypoints
from disk_hloc.stages.missing import reasons


def model_of(num_images: int, name: str) -> pycolmap.Reconstruction:
    """Return a model of images ``<name>1.jpg``, ...; the last sees no point."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=num_images, num_points3D=20
    )
    model = pycolmap.synthesize_dataset(options)
    for number, image_id in enumerate(sorted(model.images), start=1):
        model.images[image_id].name = f"{name}{number}.jpg"
    last = model.images[max(model.images)]
    for index, point in enumerate(last.points2D):
        if point.has_point3D():
            model.delete_observation(last.image_id, index)
    return model


def test_each_missing_photo_has_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    names = ["a1.jpg", "a2.jpg", "a3.jpg", "blank.jpg", "alone.jpg", "stranger.jpg", "weak.jpg"]
    with pycolmap.Database.open(path) as database:
        camera_id = database.write_camera(
            pycolmap.Camera(model="SIMPLE_PINHOLE", width=10, height=10, params=[10, 5, 5])
        )
        ids = {}
        for name in names:
            ids[name] = database.write_image(pycolmap.Image(name=name, camera_id=camera_id))
            count = 0 if name == "blank.jpg" else 30
            database.write_keypoints(ids[name], np.zeros((count, 2), np.float32))
        matches = np.stack([np.arange(20)] * 2, axis=1).astype(np.uint32)
        for name in ("stranger.jpg", "weak.jpg"):
            database.write_matches(ids["a1.jpg"], ids[name], matches)
        geometry = pycolmap.TwoViewGeometry()
        geometry.inlier_matches = matches
        database.write_two_view_geometry(ids["a1.jpg"], ids["weak.jpg"], geometry)
    models = [model_of(3, "a"), model_of(3, "b")]
    found = reasons([*names, "b1.jpg", "broken.jpg"], models, path, {"broken.jpg": "truncated"})
    assert "a1.jpg" not in found
    assert "a2.jpg" not in found
    parts = {
        "a3.jpg": "matched with no other photo",
        "blank.jpg": "no keypoints",
        "alone.jpg": "matched with no other photo",
        "stranger.jpg": "agrees geometrically with none of 1 photos",
        "weak.jpg": "1 verified pairs, but too few points",
        "b1.jpg": "in another model, 1/, of 2 photos",
        "broken.jpg": "cannot be read: truncated",
    }
    assert found.keys() == parts.keys()
    for name, part in parts.items():
        assert part in found[name]


def test_a_copy_with_more_keypoints_is_the_same_model() -> None:
    model = model_of(4, "a")
    more = {}
    for image_id, image in model.images.items():
        xy = np.array([point.xy for point in image.points2D])
        more[image_id] = np.concatenate([xy, [[1.5, 2.5], [3.5, 4.5]]])
    copy = with_keypoints(model, more)
    assert copy.num_reg_images() == model.num_reg_images()
    assert copy.compute_num_observations() == model.compute_num_observations()
    for image_id, image in model.images.items():
        other = copy.images[image_id]
        assert other.name == image.name
        assert len(other.points2D) == len(image.points2D) + 2
        np.testing.assert_array_equal(
            other.cam_from_world().matrix(), image.cam_from_world().matrix()
        )
    xyz = sorted(tuple(point.xyz) for point in model.points3D.values())
    assert sorted(tuple(point.xyz) for point in copy.points3D.values()) == xyz
