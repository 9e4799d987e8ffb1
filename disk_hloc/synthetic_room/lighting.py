"""Light and shadow, baked into the textures: all surfaces are matt, so no view changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .world import Quad, Scene

Floats = NDArray[np.float32]

# Smaller quads than this, in square metres, cast no shadow worth the time.
_CASTER = 0.03

# Rays start and end this far, in metres, from the surfaces, else these would shade themselves.
_CLEARANCE = 0.004

# Points treated together, so that their rays stay in the cache.
_CHUNK = 2048


def lit(
    scene: Scene,
    lamps: ArrayLike,
    *,
    lamp_size: float = 0.7,
    samples: int = 5,
    ambient: float = 0.5,
    reach: float = 0.9,
    spacing: float = 0.1,
    seed: int = 0,
) -> Scene:
    """A copy of `scene` with the light of `lamps` baked into the textures.

    `lamps` (L, 3) are the centres in metres of horizontal square lamps with sides of `lamp_size`
    metres, each replaced by `samples` points: Lambert's cosine, soft shadows. To it comes `ambient`
    light in proportion to the part of the sky that nothing covers within `reach` metres. Light is
    computed on the front side at points about `spacing` metres apart.
    """
    rng = np.random.default_rng(seed)
    centres = np.asarray(lamps, dtype=np.float32).reshape(-1, 1, 3)
    jitter = rng.uniform(-0.5, 0.5, (len(centres), samples, 3)) * (lamp_size, lamp_size, 0)
    sources = (centres + jitter).reshape(-1, 3).astype(np.float32)
    sky = _hemisphere(rng, 20)
    casters = [_Caster.from_quad(quad) for quad in scene.quads if quad.area > _CASTER]

    grids = [_grid(quad, spacing) for quad in scene.quads]
    frames = np.repeat([_frame(quad) for quad in scene.quads], [len(g.points) for g in grids], 0)
    points = np.concatenate([grid.points for grid in grids])
    parts = [
        _light(points[i : i + _CHUNK], frames[i : i + _CHUNK], casters, sources, reach * sky)
        for i in range(0, len(points), _CHUNK)
    ]
    light = np.concatenate([direct + ambient * open_sky for direct, open_sky in parts])
    # The brightest few percent may clip, as they do in photographs.
    light /= np.quantile(light, 0.9)
    ends = np.cumsum([len(grid.points) for grid in grids])[:-1]
    return Scene(
        tuple(
            _apply(quad, values.reshape(grid.rows, grid.columns))
            for quad, grid, values in zip(scene.quads, grids, np.split(light, ends), strict=True)
        )
    )


@dataclass(frozen=True, eq=False)
class _Caster:
    """A quad that casts shadows: `local` (3, 3) maps to a, b and height above its plane."""

    origin: Floats
    local: Floats

    @classmethod
    def from_quad(cls, quad: Quad) -> _Caster:
        local = np.linalg.inv(np.column_stack([quad.u, quad.v, quad.normal]))
        return cls(quad.origin.astype(np.float32), local.astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Grid:
    """Where light is computed on a quad: `points` (rows * columns, 3)."""

    rows: int
    columns: int
    points: Floats


def _grid(quad: Quad, spacing: float) -> _Grid:
    columns, rows = (
        int(np.clip(np.ceil(np.linalg.norm(side) / spacing), 2, 60)) for side in (quad.u, quad.v)
    )
    a, b = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    points = quad.origin + a.reshape(-1, 1) * quad.u + b.reshape(-1, 1) * quad.v
    return _Grid(rows, columns, (points + _CLEARANCE * quad.normal).astype(np.float32))


def _frame(quad: Quad) -> Floats:
    """Two tangents and the normal as rows, (3, 3)."""
    tangent = quad.u / np.linalg.norm(quad.u)
    return np.stack([tangent, np.cross(quad.normal, tangent), quad.normal]).astype(np.float32)


def _hemisphere(rng: np.random.Generator, count: int) -> Floats:
    """Directions (count, 3) about the z axis, distributed by the cosine, evenly spread."""
    radius = np.sqrt((np.arange(count) + 0.5) / count)
    angle = rng.uniform(0, 2 * np.pi) + np.pi * (3 - np.sqrt(5)) * np.arange(count)
    return np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], axis=1
    ).astype(np.float32)


def _light(
    points: Floats, frames: Floats, casters: Sequence[_Caster], sources: Floats, sky: Floats
) -> tuple[Floats, Floats]:
    """Light of the lamps, and share of the sky that is open, at points (N, 3): (N,) each."""
    to_lamp = sources[None] - points[:, None]
    distance = np.linalg.norm(to_lamp, axis=2)
    cosine = np.clip((to_lamp @ frames[:, 2, :, None])[..., 0] / distance, 0, None)
    shadow = _blocked(points, np.concatenate([to_lamp, sky @ frames], axis=1), casters)
    # Only half the fall-off of a point: what the walls throw back evens a room out.
    direct = 2.6 * (cosine / (0.5 + distance)) * ~shadow[:, : len(sources)]
    return direct.mean(axis=1), 1 - shadow[:, len(sources) :].mean(axis=1, dtype=np.float32)


def _blocked(points: Floats, rays: Floats, casters: Sequence[_Caster]) -> NDArray[np.bool_]:
    """Whether a quad lies between points (N, 3) and points + rays (N, R, 3): (N, R) bool."""
    blocked = np.zeros(rays.shape[:2], dtype=bool)
    for caster in casters:
        # (a, b, height above the plane): the quad is where height is 0 and a, b are in [0, 1].
        start = (points - caster.origin) @ caster.local.T
        height, climb = start[:, 2], rays @ caster.local[2]
        # The other end must lie beyond the plane; few rays do, so look at these alone.
        beyond = (height[:, None] > 0) != (height[:, None] + (1 - _CLEARANCE) * climb > 0)
        beyond &= (np.abs(height) > _CLEARANCE / 2)[:, None] & ~blocked
        n, r = np.nonzero(beyond)
        if len(n) == 0:
            continue
        t = -height[n] / climb[n, r]
        ab = start[n, :2] + t[:, None] * (rays[n, r] @ caster.local[:2].T)
        blocked[n, r] = ((ab > 0) & (ab < 1)).all(axis=1)
    return blocked


def _apply(quad: Quad, light: Floats) -> Quad:
    height, width = quad.texture.shape[:2]
    smooth = cv2.GaussianBlur(light, (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
    full = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    texture = np.clip(quad.texture * full[:, :, None], 0, 255).astype(np.uint8)
    return replace(quad, texture=texture)
