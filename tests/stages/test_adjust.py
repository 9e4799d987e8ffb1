"""The robust bundle adjustment on a drawn model whose poses are known."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from disk_hloc.eval.model import pose_errors
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import cam_from_world
from disk_hloc.stages import adjust

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap, "create_default_bundle_adjuster")
    or not hasattr(pycolmap, "SyntheticDatasetOptions"),
    reason="this pycolmap draws no models",
)


def draw() -> tuple[pycolmap.Reconstruction, dict[str, Pose]]:
    """A model of 10 images with observations that are 0.2 px off, one in 20 of them 1 to 4 px."""
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 1, 10, 300
    model = pycolmap.synthesize_dataset(options)
    truth = {}
    for image in model.images.values():
        pose = cam_from_world(image)
        x, y, z, w = pose.rotation.quat
        truth[image.name] = Pose(np.array([w, x, y, z]), np.array(pose.translation))
    random = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            error = random.normal(0, 0.2, 2)
            if random.random() < 0.05:
                error += random.uniform(0.7, 2.8, 2)
            point.xy = point.xy + error
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
    return model, truth


def test_wrong_observations_have_less_effect() -> None:
    model, truth = draw()
    count = model.compute_num_observations()
    before = pose_errors(model, truth)
    adjust.main(model)
    after = pose_errors(model, truth)
    assert after.position.mean() < 0.7 * before.position.mean()
    assert after.rotation.mean() < 0.7 * before.rotation.mean()
    assert model.compute_num_observations() == count


def test_a_point_that_flies_away_is_dropped() -> None:
    model, _ = draw()
    lost = next(iter(model.points3D))
    random = np.random.default_rng(0)
    for element in model.points3D[lost].track.elements:
        point = model.images[element.image_id].points2D[element.point2D_idx]
        point.xy = point.xy + random.normal(0, 300, 2)
    count = model.num_points3D()
    adjust.main(model)
    assert lost not in model.points3D
    assert model.num_points3D() == count - 1
    assert model.compute_mean_reprojection_error() < 1


def test_fixed_intrinsics_do_not_change() -> None:
    model, _ = draw()
    before = {index: camera.params.copy() for index, camera in model.cameras.items()}
    adjust.main(model, fix_intrinsics=True)
    for index, params in before.items():
        np.testing.assert_array_equal(model.cameras[index].params, params)


def test_an_empty_model_and_one_without_errors_do_not_change() -> None:
    adjust.main(pycolmap.Reconstruction())
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions())
    pose = {index: cam_from_world(image).matrix() for index, image in model.images.items()}
    adjust.main(model)
    for index, image in model.images.items():
        np.testing.assert_array_equal(cam_from_world(image).matrix(), pose[index])


@pytest.mark.parametrize(("photos", "most"), [(10, 5000), (40, 200)])
def test_points_in_many_photos_are_not_solved_directly(photos: int, most: int) -> None:
    drawing = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=photos, num_points3D=50
    )
    model = pycolmap.synthesize_dataset(drawing)
    options, _ = adjust._robust_options(model, [1.0])
    solver = getattr(options, "ceres", options)
    assert solver.max_num_images_direct_sparse_cpu_solver == most
