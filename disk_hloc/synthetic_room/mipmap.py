"""Textures at all scales, and how to read them at many points at once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# cv2.remap takes no side of 32,768 or more, so lists of points are folded into rows of this length.
_FOLD = 4096


@dataclass(frozen=True, eq=False)
class Mipmap:
    """All levels of a texture in one image, so that one call reads points at mixed levels.

    `atlas` is (H, W, 3) uint8; `left`, `top`, `width`, `height` are (L,) float32: the rectangle
    of each level, level 0 being the texture itself and each next one half of it.
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
        """Colours (N, 3) float32 at texture coordinates `a`, `b` in [0, 1] and scale `level`.

        Bilinear within a level and linear between two levels. `level` (N,) float32 is log2 of the
        footprint in texels; below 0 the texture is magnified.
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
        # Half a texel from the rim, so that no neighbour in the atlas bleeds in.
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
