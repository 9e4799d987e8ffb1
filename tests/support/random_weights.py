"""Weights and images at random, the same on every machine and for every order of parameters."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def random_weights(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters whose values depend on their names and shapes alone.

    Args:
        like: a state dict of convolutions and normalisations.
    """
    result = {}
    for name, value in like.items():
        rng = np.random.RandomState(zlib.crc32(name.encode()))
        drawn = rng.standard_normal(tuple(value.shape))
        if name.endswith("num_batches_tracked"):
            drawn = np.zeros(())
        elif name.endswith("running_var"):
            drawn = 0.5 + np.abs(drawn)
        elif value.ndim == 1 and name.endswith("weight"):
            drawn = 0.8 + 0.1 * drawn
        elif value.ndim == 1:
            drawn *= 0.2
        else:
            drawn *= (2 / value[0].numel()) ** 0.5
        result[name] = torch.from_numpy(drawn).to(value.dtype)
    return result


def random_image(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a (1, 3, height, width) image in [0, 1] with structure of several sizes."""
    rng = np.random.RandomState(seed)
    total = torch.zeros(1, 3, height, width)
    for size in (4, 8, 16):
        coarse = torch.from_numpy(rng.uniform(size=(1, 3, height // size + 2, width // size + 2)))
        total += torch.nn.functional.interpolate(
            coarse.float(), (height, width), mode="bicubic", align_corners=True
        )
    return (total / 3).clamp(0, 1)
