"""Geometry of the keypoints of two images, on tensors.

For keypoints and cameras, (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from disk_hloc import geometry as formulas


@dataclass(frozen=True)
class View:
    """The camera of an image, and its depth.

    Attributes:
        matrix: (3, 3) intrinsics in pixels.
        rotation, translation: (3, 3) and (3,) of cam_from_world.
        depth: (H, W) z-depth of the pixels, NaN where it is unknown; None if no image has depth.
    """

    matrix: Tensor
    rotation: Tensor
    translation: Tensor
    depth: Tensor | None = None

    def to(self, device: torch.device) -> View:
        """Return the view on a device."""
        return View(
            self.matrix.to(device, non_blocking=True),
            self.rotation.to(device, non_blocking=True),
            self.translation.to(device, non_blocking=True),
            None if self.depth is None else self.depth.to(device, non_blocking=True),
        )


def relative_pose(view1: View, view2: View) -> tuple[Tensor, Tensor]:
    """Return the (3, 3) rotation and (3,) translation of cam2_from_cam1, float64."""
    rotation = view2.rotation.double() @ view1.rotation.double().T
    return rotation, view2.translation.double() - rotation @ view1.translation.double()


def fundamental_matrix(view1: View, view2: View) -> Tensor:
    """Return (3, 3) float64 F: x2 F x1 = 0 for the pixels of one point."""
    rotation, translation = relative_pose(view1, view2)
    # In float64: positions far from the origin leave few digits for their difference.
    essential = torch.linalg.cross(translation[:, None], rotation, dim=0)
    inverse1, inverse2 = (torch.linalg.inv(view.matrix.double()) for view in (view1, view2))
    return inverse2.T @ essential @ inverse1


def epipolar_distances(xy1: Tensor, xy2: Tensor, view1: View, view2: View) -> tuple[Tensor, Tensor]:
    """Return how far all pairs of keypoints are from their epipolar lines.

    Args:
        xy1: (N, 2) float, pixels of the first image.
        xy2: (M, 2) float, of the second.

    Returns:
        (N, M) pixels in the first image, and (N, M) in the second.
    """
    fundamental = _unit_fundamental(xy1, view1, view2)
    lines1, lines2 = formulas.epipolar_lines(xy1, xy2, fundamental)
    product = (lines2[:, :2] @ xy2.T + lines2[:, 2:]).abs()
    length1, length2 = (formulas.line_lengths(lines, fundamental) for lines in (lines1, lines2))
    return product / length1[None, :], product / length2[:, None]


def matched_epipolar_distances(
    xy1: Tensor, xy2: Tensor, view1: View, view2: View
) -> tuple[Tensor, Tensor]:
    """Return the same as :func:`epipolar_distances` for K matched keypoints: (K,) and (K,)."""
    return formulas.epipolar_distances(xy1, xy2, _unit_fundamental(xy1, view1, view2))


def transfer(xy: Tensor, view1: View, view2: View) -> Tensor:
    """Return where the points at keypoints of the first image are in the second.

    Args:
        xy: (N, 2) float x and y of pixels of the first image.
        view1: with depth.

    Returns:
        (N, 2) pixels of the second image, also outside of it; NaN where the depth is unknown or the
        point is behind the second camera.
    """
    if view1.depth is None:
        raise ValueError("the view has no depth")
    column, row = xy.long().unbind(dim=1)
    depth = view1.depth[row, column].to(xy.dtype)
    rotation, translation = relative_pose(view1, view2)
    to_second = view2.matrix.double() @ rotation @ torch.linalg.inv(view1.matrix.double())
    offset = view2.matrix.double() @ translation
    projected = _homogeneous(xy) @ to_second.to(xy.dtype).T * depth[:, None] + offset.to(xy.dtype)
    in_front = projected[:, 2:] > 0
    nowhere = torch.full_like(projected[:, :2], torch.nan)
    return torch.where(in_front, projected[:, :2] / projected[:, 2:], nowhere)


def transfer_distances(xy1: Tensor, xy2: Tensor, view1: View, view2: View) -> tuple[Tensor, Tensor]:
    """Return how far K matched keypoints are from where depth takes the other one.

    Returns:
        (K,) pixels in the first image, and (K,) in the second; infinite where it is unknown.
    """
    there, back = transfer(xy1, view1, view2), transfer(xy2, view2, view1)
    first, second = (back - xy1).norm(dim=1), (there - xy2).norm(dim=1)
    return first.nan_to_num(torch.inf), second.nan_to_num(torch.inf)


def without_baseline(view1: View, view2: View) -> Tensor:
    """Return () bool: whether two cameras are at one place, where there are no epipolar lines.

    So are those of the two views of a photo under homographies (:mod:`.warped`).
    """
    return (relative_pose(view1, view2)[1] == 0).all()


def _unit_fundamental(xy: Tensor, view1: View, view2: View) -> Tensor:
    """Return the fundamental matrix at unit norm, in the type of ``xy``."""
    fundamental = fundamental_matrix(view1, view2)
    # Its scale is that of the scene, and cancels.
    return (fundamental / fundamental.norm().clamp(min=1e-300)).to(xy.dtype)


def _homogeneous(xy: Tensor) -> Tensor:
    return torch.cat([xy, torch.ones_like(xy[:, :1])], dim=1)
