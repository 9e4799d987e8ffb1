"""Corresponding positions by depth."""

from __future__ import annotations

import torch

from disk_hloc.train.correspondences import corresponding
from disk_hloc.train.geometry import View


def test_a_point_that_is_hidden_has_no_correspondence() -> None:
    # A wall at depth 4, seen by two cameras beside each other: 10 pixels of disparity.
    matrix = torch.tensor([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]])
    wall = torch.full((48, 64), 4.0)
    first = View(matrix, torch.eye(3), torch.zeros(3), wall)
    second = View(matrix, torch.eye(3), torch.tensor([-1.0, 0, 0]), wall.clone())
    assert second.depth is not None
    second.depth[20, 20] = 1  # something in front of it
    second.depth[30, 20] = torch.nan
    xy = torch.tensor([[30.0, 10], [30, 20], [30, 30], [5, 10]])
    here, there = corresponding(xy, first, second, (64, 48), 1.5)
    assert here.tolist() == [[30, 10]]
    assert there.tolist() == [[20, 10]]
    # The padding of the second image has no positions.
    assert not len(corresponding(xy, first, second, (20, 48), 1.5)[0])
