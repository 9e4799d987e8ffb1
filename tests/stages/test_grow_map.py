"""New images in a drawn model: which points they see, and what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from disk_hloc.io import colmap
from disk_hloc.stages import grow_map

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap, "SyntheticDatasetOptions"), reason="this pycolmap draws no models"
)

NUM_OLD = 6


@pytest.fixture
def grown() -> pycolmap.Reconstruction:
    """A model of eight images, whose observations are 0.2 px off."""
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=NUM_OLD + 2, num_points3D=200
    )
    model = pycolmap.synthesize_dataset(options)
    random = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            point.xy = point.xy + random.normal(0, 0.2, 2)
    model.update_point_3d_errors()
    return model


@pytest.fixture
def new(grown: pycolmap.Reconstruction) -> list[int]:
    """The ids of its last images."""
    return sorted(grown.images)[NUM_OLD:]


def without(
    model: pycolmap.Reconstruction, image_ids: list[int], folder: Path
) -> pycolmap.Reconstruction:
    """The model without some images."""
    folder.mkdir()
    model.write(folder)
    former = pycolmap.Reconstruction(folder)
    for image_id in image_ids:
        former.deregister_frame(former.images[image_id].frame_id)
    former.write(folder)  # only images with a pose
    return pycolmap.Reconstruction(folder)


def tracks(model: pycolmap.Reconstruction) -> dict[int, set[tuple[int, int]]]:
    return {
        point_id: {(e.image_id, e.point2D_idx) for e in point.track.elements}
        for point_id, point in model.points3D.items()
    }


def test_points_that_the_mapper_joins_stay_two(
    grown: pycolmap.Reconstruction, new: list[int], tmp_path: Path
) -> None:
    former = without(grown, new, tmp_path / "former")
    before = tracks(former)
    shared = [i for i in sorted(before) if len(before[i]) > 2]
    joined = grown.merge_points3D(shared[0], shared[1])
    lost = shared[2]
    grown.delete_point3D(lost)  # COLMAP has filtered it
    assert grow_map.add_to(former, grown, new) == new
    after = tracks(former)
    for point_id, track in before.items():
        assert track <= after[point_id]
        assert {e for e in after[point_id] if e[0] not in new} == track
    assert after[lost] == before[lost]
    # Each observation of the joined point by a new image has gone to one of the two.
    fresh = {e for e in tracks(grown)[joined] if e[0] in new}
    assert fresh
    assert fresh <= after[shared[0]] | after[shared[1]]
    assert not after[shared[0]] & after[shared[1]]


def test_observations_that_do_not_fit_are_dropped(
    grown: pycolmap.Reconstruction, new: list[int], tmp_path: Path
) -> None:
    former = without(grown, new, tmp_path / "former")
    points = {i: np.array(point.xyz) for i, point in former.points3D.items()}
    poses = colmap.poses_of(former)
    of_all = [i for i, track in sorted(tracks(grown).items()) if len(track) == NUM_OLD + 2]
    wrong, far = of_all[:2]
    for point_id, offset, image_ids in ((wrong, 100, new), (far, 8, new[:1])):
        for element in grown.points3D[point_id].track.elements:
            if element.image_id in image_ids:
                seen = grown.images[element.image_id].points2D[element.point2D_idx]
                seen.xy = seen.xy + offset
    grow_map.add_to(former, grown, new)
    pose = former.frames[former.images[new[0]].frame_id].rig_from_world
    pose.translation = pose.translation + 0.01
    former.frames[former.images[new[0]].frame_id].rig_from_world = pose
    before = grown.compute_mean_reprojection_error()
    grow_map.refine(former, new, points, former.cameras)
    now = colmap.poses_of(former)
    for name, pose_before in poses.items():
        assert np.array_equal(pose_before.quaternion, now[name].quaternion)
        assert np.array_equal(pose_before.translation, now[name].translation)
    assert {e for e in tracks(former)[wrong] if e[0] in new} == set()
    assert np.array_equal(former.points3D[wrong].xyz, points[wrong])
    assert {e[0] for e in tracks(former)[far] if e[0] in new} == {new[1]}
    assert former.compute_mean_reprojection_error() < before
    moved = [i for i, xyz in points.items() if not np.array_equal(former.points3D[i].xyz, xyz)]
    assert moved
    for image_id in new:
        true = colmap.to_pose(colmap.cam_from_world(grown.images[image_id]))
        found = now[grown.images[image_id].name]
        assert np.linalg.norm(true.center - found.center) < 5e-3
