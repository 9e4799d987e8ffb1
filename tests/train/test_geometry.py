"""The formulas on tensors, against the same on numpy arrays."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc import geometry
from disk_hloc.geometry import Pose
from disk_hloc.train.geometry import (
    View,
    epipolar_distances,
    fundamental_matrix,
    matched_epipolar_distances,
    relative_pose,
)

MATRICES = np.array(
    [[[500, 0, 310], [0, 510, 250], [0, 0, 1.0]], [[620, 0, 330], [0, 600, 236], [0, 0, 1]]]
)


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_poses_lines_and_distances_are_those_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quaternions = rng.normal(size=(2, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    poses = [Pose(q, rng.normal(size=3)) for q in quaternions]
    views = [
        View(*map(torch.from_numpy, (matrix, pose.rotation, pose.translation)))
        for matrix, pose in zip(MATRICES, poses, strict=True)
    ]
    rotation, translation = geometry.relative_pose(*poses)
    for found, expected in zip(relative_pose(*views), (rotation, translation), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    inverse1, inverse2 = np.linalg.inv(MATRICES)
    matrix = inverse2.T @ geometry.essential_matrix(rotation, translation) @ inverse1
    np.testing.assert_allclose(fundamental_matrix(*views).numpy(), matrix, atol=1e-9)
    xy1, xy2 = rng.uniform(0, 500, (2, 7, 2))
    expected = geometry.epipolar_distances(xy1, xy2, matrix)
    tensors = torch.from_numpy(xy1), torch.from_numpy(xy2)
    matched = matched_epipolar_distances(*tensors, *views)
    table = epipolar_distances(*tensors, *views)
    for side in range(2):
        np.testing.assert_allclose(matched[side].numpy(), expected[side], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(table[side].diagonal().numpy(), expected[side], rtol=1e-6)
    several = epipolar_distances(tensors[0], tensors[1][:3], *views)
    torch.testing.assert_close(several[0], table[0][:, :3])
    torch.testing.assert_close(several[1], table[1][:, :3])


def test_views_of_one_place_agree_with_no_match() -> None:
    view = View(torch.eye(3), torch.eye(3), torch.ones(3))
    xy = torch.tensor([[3.0, 4.0]])
    for distance in matched_epipolar_distances(xy, xy, view, view):
        assert not (distance < 1.5).any()
