"""Store textures at all scales, and sample them at many points at once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# cv2.remap does not support sides of 32,768 or more, so points are folded into rows of this length.
_FOLD = 4096


@dataclass(frozen=True, eq=False)
class Mipmap:
    """All levels of a texture in one image, so that one call can sample points at mixed levels.

    Attributes:
        atlas: (H, W, 3) uint8.
        left, top, width, height: (L,) float32 rectangles of the levels in texels; level 0 is the
            texture itself, and each further level has half the size.
    """

    atlas: NDArray[np.uint8]
    left: Floats
    top: Floats
    width: Floats
    height: Floats

    @classmethod
    def from_texture(cls, texture: NDArray[np.uint8]) -> Mipmap:
        """Build the levels of a texture (H, W, 3) uint8."""
        levels = [np.ascontiguousarray(texture)]
        while max(levels[-1].shape[:2]) > 1:
            h, w = levels[-1].shape[:2]
            half = (max(1, w // 2), max(1, h // 2))
            levels.append(
                np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA), np.uint8)
            )
        rest_height = sum(level.shape[0] for level in levels[1:])
        rest_width = levels[1].shape[1] if len(levels) > 1 else 0
        h, w = levels[0].shape[:2]
        atlas = np.zeros((max(h, rest_height), w + rest_width, 3), dtype=np.uint8)
        left, top = [], []
        x = y = 0
        for level in levels:
            atlas[y : y + level.shape[0], x : x + level.shape[1]] = level
            left.append(x)
            top.append(y)
            if x == 0:
                x = w
            else:
                y += level.shape[0]
        sizes = np.array([level.shape[:2] for level in levels], dtype=np.float32)
        return cls(
            atlas, np.array(left, np.float32), np.array(top, np.float32), sizes[:, 1], sizes[:, 0]
        )

    def sample(self, a: Floats, b: Floats, level: Floats) -> Floats:
        """Sample colours, bilinearly within a level and linearly between two levels.

        Args:
            a, b: (N,) float32 texture coordinates in [0, 1].
            level: (N,) float32 log2 of the footprint in texels; below 0 the texture is magnified.

        Returns:
            (N, 3) float32.
        """
        last = len(self.left) - 1
        level = np.clip(level, 0, last)
        lower = level.astype(np.intp)
        weight = level - lower
        colour = self._bilinear(a, b, lower)
        if weight.any():
            coarser = self._bilinear(a, b, np.minimum(lower + 1, last))
            colour += weight[:, None] * (coarser - colour)
        return colour

    def _bilinear(self, a: Floats, b: Floats, level: NDArray[np.intp]) -> Floats:
        # Half a texel from the border, so that the neighbours in the atlas are not sampled.
        width, height = self.width[level], self.height[level]
        x = self.left[level] + np.clip(a * width - 0.5, 0, width - 1)
        y = self.top[level] + np.clip(b * height - 0.5, 0, height - 1)
        count = len(x)
        rows = -(-count // _FOLD)
        folded = np.zeros((2, rows * _FOLD), dtype=np.float32)
        folded[0, :count] = x
        folded[1, :count] = y
        colours = cv2.remap(
            self.atlas,
            folded[0].reshape(rows, _FOLD),
            folded[1].reshape(rows, _FOLD),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return colours.reshape(-1, 3)[:count].astype(np.float32)
