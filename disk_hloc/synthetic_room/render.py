"""Render textured rectangles with exact depth and labels.

For a quad M = [u v o] in camera coordinates, the point a u + b v + o lies on the ray through pixel
(x, y) at z-depth z if and only if (a, b, 1) / z = inv(K M) (x, y, 1). Therefore a/z, b/z and 1/z
are affine in the pixel, and visibility needs neither triangles nor clipping.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .camera import Camera
from .world import Quad, Scene

# The distance of the near plane, in front of which nothing is rendered.
NEAR_M = 0.01

# Number of rows rendered together, so that intermediate arrays stay in the cache.
_BAND_ROWS = 64

# Samples along the longer axis of a footprint, for surfaces seen at a grazing angle.
_MAX_TAPS = 4


@dataclass(frozen=True, eq=False)
class Rendering:
    """The view of one camera.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 z-depth in metres at the centres of pixels, 0 where nothing is hit.
        labels: (H, W) int32 indices in `scene.object_names` at the centres of pixels, -1 where
            nothing is hit.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A quad seen by one camera: (a/z, b/z, 1/z) = plane (x, y, 1) within the bounds in pixels."""

    index: int
    plane: NDArray[np.float64]
    left: float
    top: float
    right: float
    bottom: float


def render(
    scene: Scene,
    camera: Camera,
    cam_from_world: ArrayLike,
    *,
    supersampling: int = 2,
    noise: float = 0.0,
    seed: int = 0,
) -> Rendering:
    """Render a scene.

    Colours are averages over each pixel, while depth and labels belong to the ray through its
    centre: at an outline the colour is a mixture, but the depth is not.

    Args:
        scene: the scene.
        camera: the camera.
        cam_from_world: (3, 4) pose in metres, with x right, y down, z forward.
        supersampling: number of filtered samples along each side of a pixel.
        noise: standard deviation of the sensor's Gaussian noise in grey levels.
        seed: seed of the noise.

    Raises:
        ValueError: the pose is not a rotation and a translation, or `supersampling` is below 1.
    """
    pose = np.asarray(cam_from_world, dtype=np.float64)
    if pose.shape != (3, 4) or not np.allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-6):
        raise ValueError("cam_from_world is not a (3, 4) rotation and translation")
    if supersampling < 1:
        raise ValueError("supersampling must be at least 1")
    drawn = [
        d for i, quad in enumerate(scene.quads) if (d := _draw(i, quad, camera, pose)) is not None
    ]
    depth = np.zeros((camera.height, camera.width), dtype=np.float32)
    labels = np.full((camera.height, camera.width), -1, dtype=np.int32)
    colour = np.empty((camera.height, camera.width, 3), dtype=np.float32)
    # The last entry is for the index -1, where nothing is hit.
    label_of_quad = np.append(scene.object_of_quad, np.int32(-1))
    step = max(1, _BAND_ROWS // supersampling)

    def draw_rows(top: int) -> None:
        rows = slice(top, min(top + step, camera.height))
        quads, inverse = _visible(drawn, camera, rows, 1)
        hit = quads >= 0
        depth[rows][hit] = 1 / inverse[hit]
        labels[rows] = label_of_quad[quads]
        if supersampling > 1:
            quads, _ = _visible(drawn, camera, rows, supersampling)
        samples = _shade(scene, drawn, quads, rows.start, supersampling)
        colour[rows] = cv2.resize(
            samples, (camera.width, rows.stop - rows.start), interpolation=cv2.INTER_AREA
        )

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(draw_rows, range(0, camera.height, step)))
    if noise > 0:
        rng = np.random.default_rng(seed)
        colour += noise * rng.standard_normal(colour.shape, dtype=np.float32)
    image = np.clip(np.rint(colour), 0, 255).astype(np.uint8)
    return Rendering(image, depth, labels)


def _draw(index: int, quad: Quad, camera: Camera, pose: NDArray[np.float64]) -> _Drawn | None:
    corners = quad.corners @ pose[:, :3].T + pose[:, 3]
    outline = _in_front(corners)
    if len(outline) == 0:
        return None
    pixels = outline[:, :2] / outline[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    left, top = pixels.min(axis=0)
    right, bottom = pixels.max(axis=0)
    if right < 0 or bottom < 0 or left > camera.width or top > camera.height:
        return None
    spans = np.column_stack([corners[1] - corners[0], corners[3] - corners[0], corners[0]])
    # A plane through the camera centre is seen edge-on, and covers no pixels.
    if abs(np.linalg.det(spans)) < 1e-12 * quad.area:
        return None
    return _Drawn(index, np.linalg.inv(camera.matrix @ spans), left, top, right, bottom)


def _in_front(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the outline (N, 3) of the part of a polygon beyond the near plane."""
    outline = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if start[2] >= NEAR_M:
            outline.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            share = (NEAR_M - start[2]) / (end[2] - start[2])
            outline.append(start + share * (end - start))
    return np.array(outline).reshape(-1, 3)


def _visible(
    drawn: list[_Drawn], camera: Camera, rows: slice, density: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Find the nearest quad (or -1) and its inverse depth for `density` samples per pixel side."""
    shape = ((rows.stop - rows.start) * density, camera.width * density)
    nearest = np.full(shape, -1, dtype=np.int32)
    inverse = np.zeros(shape)
    for quad in drawn:
        x0, x1 = _span(quad.left, quad.right, 0, camera.width, density)
        y0, y1 = _span(quad.top, quad.bottom, rows.start, rows.stop, density)
        if x0 >= x1 or y0 >= y1:
            continue
        x = (np.arange(x0, x1) + 0.5) / density
        y = (np.arange(y0, y1)[:, None] + 0.5) / density + rows.start
        a, b, w = (p[0] * x + (p[1] * y + p[2]) for p in quad.plane)
        window = (slice(y0, y1), slice(x0, x1))
        # The quad is widened a little, so that rounding does not open a crack between two quads
        # that share an edge.
        rim = 1e-9 * w
        covered = (w > inverse[window]) & (w <= 1 / NEAR_M)
        covered &= (a >= -rim) & (b >= -rim) & (a <= w + rim) & (b <= w + rim)
        inverse[window][covered] = w[covered]
        nearest[window][covered] = quad.index
    return nearest, inverse


def _span(low: float, high: float, start: int, stop: int, density: int) -> tuple[int, int]:
    """Return the range of samples from `low` to `high`, counted from `start`, up to `stop`."""
    first = max(low, start) - start
    last = min(high, stop) - start
    return int(np.floor(first * density)), min(
        int(np.ceil(last * density)) + 1, (stop - start) * density
    )


def _shade(
    scene: Scene, drawn: list[_Drawn], nearest: NDArray[np.int32], top: int, density: int
) -> NDArray[np.float32]:
    """Compute the colours (h, w, 3) float32 of samples from their nearest quads."""
    colour = np.zeros((*nearest.shape, 3), dtype=np.float32)
    flat, flat_colour = nearest.ravel(), colour.reshape(-1, 3)
    order = np.argsort(flat, kind="stable")
    bounds = np.searchsorted(flat[order], np.arange(len(scene.quads) + 1))
    for quad in drawn:
        where = order[bounds[quad.index] : bounds[quad.index + 1]]
        if len(where) == 0:
            continue
        row, column = np.divmod(where, nearest.shape[1])
        x = (column + 0.5) / density
        y = (row + 0.5) / density + top
        flat_colour[where] = _texture(scene.quads[quad.index], quad.plane, x, y, 1 / density)
    return colour


def _texture(
    quad: Quad,
    plane: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    spacing: float,
) -> NDArray[np.float32]:
    """Compute the colours (N, 3) of a quad, filtered over samples of `spacing` pixels."""
    homogeneous = plane @ np.stack([x, y, np.ones_like(x)])
    w = homogeneous[2]
    ab = (homogeneous[:2] / w).astype(np.float32)
    p = plane.astype(np.float32)
    scale = (spacing / w).astype(np.float32)
    along_x = (p[:2, 0, None] - ab * p[2, 0]) * scale
    along_y = (p[:2, 1, None] - ab * p[2, 1]) * scale
    size = np.array([[quad.texture.shape[1]], [quad.texture.shape[0]]], dtype=np.float32)
    length_x = np.sqrt(((along_x * size) ** 2).sum(axis=0))
    length_y = np.sqrt(((along_y * size) ** 2).sum(axis=0))
    longer = np.maximum(length_x, length_y)
    shorter = np.maximum(np.minimum(length_x, length_y), np.float32(1e-6))
    axis = np.where(length_x > length_y, along_x, along_y)
    taps = int(np.clip(np.ceil(np.max(longer / shorter) - 0.1), 1, _MAX_TAPS))
    level = np.log2(np.maximum(np.maximum(longer / taps, shorter), np.float32(1e-6)))
    colour = np.zeros((len(x), 3), dtype=np.float32)
    for tap in range(taps):
        offset = np.float32((tap + 0.5) / taps - 0.5)
        a, b = ab + offset * axis
        colour += quad.mipmap.sample(a, b, level)
    return colour / np.float32(taps)
