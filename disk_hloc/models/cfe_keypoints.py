"""Keypoints of a level's score map by the rules of CFE's code.

The step is that of D2-Net (Dusmanu, Rocco, Pajdla, Pollefeys, Sivic, Torii, Sattler, CVPR 2019).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def find_cfe_keypoints(scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Find the cells near which the scores have no slope, by row, then column.

    That is where Newton's step is shorter than half a cell along both axes. Maxima are among them,
    and minima and saddles as well. Beyond the map scores are 0.

    Args:
        scores: (H, W) float.
        threshold: a keypoint's score is at least that.

    Returns:
        (N, 2) float32 x and y in cells, none of them off the centres of the outermost cells; (N,)
        scores of the cells from which they moved.
    """
    framed = F.pad(scores, (1, 1, 1, 1))
    middle = framed[1:-1, 1:-1]
    above, below = framed[:-2, 1:-1], framed[2:, 1:-1]
    left, right = framed[1:-1, :-2], framed[1:-1, 2:]
    slope_y, slope_x = (below - above) / 2, (right - left) / 2
    curved_y, curved_x = above - 2 * middle + below, left - 2 * middle + right
    mixed = (framed[:-2, :-2] - framed[:-2, 2:] - framed[2:, :-2] + framed[2:, 2:]) / 4
    determinant = curved_y * curved_x - mixed.square()
    step_x = (mixed * slope_y - curved_y * slope_x) / determinant
    step_y = (mixed * slope_x - curved_x * slope_y) / determinant
    near = (step_x.abs() < 0.5) & (step_y.abs() < 0.5) & (scores >= threshold)
    y, x = torch.nonzero(near, as_tuple=True)
    xy = torch.stack([x + step_x[y, x], y + step_y[y, x]], dim=1)
    height, width = scores.shape
    inside = ((xy >= 0) & (xy <= xy.new_tensor([width - 1, height - 1]))).all(dim=1)
    return xy[inside], scores[y, x][inside]
