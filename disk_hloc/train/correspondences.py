"""Positions of one image whose positions in another are known by depth."""

from __future__ import annotations

import torch
from torch import Tensor

from .geometry import View, transfer


def random_pixels(size: tuple[int, int], count: int, device: torch.device) -> Tensor:
    """Draw pixels of an image uniformly.

    Args:
        size: width and height in pixels.
        count: number of pixels; one may be drawn twice.
        device: of the result.

    Returns:
        (count, 2) float32 x and y.
    """
    index = torch.randint(size[0] * size[1], (count,), device=device)
    return torch.stack([index % size[0], index // size[0]], dim=1).float()


def one_of_each_cell(size: tuple[int, int], cell: int, device: torch.device) -> Tensor:
    """Draw a pixel in each square cell of an image; what is left at the right and bottom has none.

    Args:
        size: width and height of the image in pixels.
        cell: side of a cell in pixels.
        device: of the result.

    Returns:
        (N, 2) float32 x and y, by row of cells.
    """
    columns, rows = size[0] // cell, size[1] // cell
    within = torch.randint(cell, (rows * columns, 2), device=device)
    index = torch.arange(rows * columns, device=device)
    corner = torch.stack([index % max(1, columns), index // max(1, columns)], dim=1) * cell
    return (corner + within).float()


def corresponding(
    xy1: Tensor, view1: View, view2: View, size2: tuple[int, int], threshold: float
) -> tuple[Tensor, Tensor]:
    """Return where positions of one image are in another, if they are seen there.

    A point is hidden if the depth of the other image takes it elsewhere.

    Args:
        xy1: (N, 2) x and y in pixels of the first image, inside of it.
        view1, view2: the cameras, with depth.
        size2: width and height of the second image in pixels.
        threshold: largest distance in pixels between a position and what comes back to it.

    Returns:
        (M, 2) positions of the first image that are seen in the second, and (M, 2) there, between
        its pixels.
    """
    xy2 = transfer(xy1, view1, view2)
    last = xy2.new_tensor(size2) - 1
    # NaN, where depth is unknown, is not inside.
    inside = ((xy2 >= 0) & (xy2 <= last)).all(dim=1)
    xy1, xy2 = xy1[inside], xy2[inside]
    back = transfer(xy2, view2, view1)
    seen = (back - xy1).norm(dim=1) < threshold
    return xy1[seen], xy2[seen]
