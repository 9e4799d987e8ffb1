"""Bake light and shadows into textures; surfaces are matt, so the view does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .world import Quad, Scene

Floats = NDArray[np.float32]

# Smaller quads cast no shadows, to save time.
_CASTER_M2 = 0.03

# Rays start and end at this distance from the surfaces, which would otherwise shade themselves.
_CLEARANCE_M = 0.004

# Number of points processed together, so that their rays stay in the cache.
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
    """Return a copy of `scene` with the light of lamps baked into the textures.

    Lamps give diffuse light with soft shadows. Ambient light is proportional to the part of the
    hemisphere that is not covered. Light is computed on the front sides.

    Args:
        scene: the scene.
        lamps: (L, 3) centres in metres of horizontal square lamps.
        lamp_size: side of a lamp in metres.
        samples: number of points that sample a lamp.
        ambient: strength of the ambient light.
        reach: distance in metres up to which surfaces block ambient light.
        spacing: approximate distance in metres of the points at which light is computed.
        seed: seed of the samples.
    """
    rng = np.random.default_rng(seed)
    centres = np.asarray(lamps, dtype=np.float32).reshape(-1, 1, 3)
    jitter = rng.uniform(-0.5, 0.5, (len(centres), samples, 3)) * (lamp_size, lamp_size, 0)
    sources = (centres + jitter).reshape(-1, 3).astype(np.float32)
    sky = _hemisphere(rng, 20)
    casters = [_Caster.from_quad(quad) for quad in scene.quads if quad.area > _CASTER_M2]

    grids = [_grid(quad, spacing) for quad in scene.quads]
    frames = np.repeat([_frame(quad) for quad in scene.quads], [len(g.points) for g in grids], 0)
    points = np.concatenate([grid.points for grid in grids])
    parts = [
        _light(points[i : i + _CHUNK], frames[i : i + _CHUNK], casters, sources, reach * sky)
        for i in range(0, len(points), _CHUNK)
    ]
    light = np.concatenate([direct + ambient * open_sky for direct, open_sky in parts])
    # The brightest few percent may clip, as in photographs.
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
    """The `points` (rows * columns, 3) of a quad at which light is computed."""

    rows: int
    columns: int
    points: Floats


def _grid(quad: Quad, spacing: float) -> _Grid:
    columns, rows = (
        int(np.clip(np.ceil(np.linalg.norm(side) / spacing), 2, 60)) for side in (quad.u, quad.v)
    )
    a, b = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    points = quad.origin + a.reshape(-1, 1) * quad.u + b.reshape(-1, 1) * quad.v
    return _Grid(rows, columns, (points + _CLEARANCE_M * quad.normal).astype(np.float32))


def _frame(quad: Quad) -> Floats:
    """Return two tangents and the normal as rows, (3, 3)."""
    tangent = quad.u / np.linalg.norm(quad.u)
    return np.stack([tangent, np.cross(quad.normal, tangent), quad.normal]).astype(np.float32)


def _hemisphere(rng: np.random.Generator, count: int) -> Floats:
    """Return directions (count, 3) around the z axis, evenly spread with a cosine distribution."""
    radius = np.sqrt((np.arange(count) + 0.5) / count)
    angle = rng.uniform(0, 2 * np.pi) + np.pi * (3 - np.sqrt(5)) * np.arange(count)
    return np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], axis=1
    ).astype(np.float32)


def _light(
    points: Floats, frames: Floats, casters: Sequence[_Caster], sources: Floats, sky: Floats
) -> tuple[Floats, Floats]:
    """Compute the light of the lamps and the open share of the sky, (N,) each, at (N, 3) points."""
    to_lamp = sources[None] - points[:, None]
    distance = np.linalg.norm(to_lamp, axis=2)
    cosine = np.clip((to_lamp @ frames[:, 2, :, None])[..., 0] / distance, 0, None)
    shadow = _blocked(points, np.concatenate([to_lamp, sky @ frames], axis=1), casters)
    # Half the fall-off of a point light, since reflections from the walls even out a room.
    direct = 2.6 * (cosine / (0.5 + distance)) * ~shadow[:, : len(sources)]
    return direct.mean(axis=1), 1 - shadow[:, len(sources) :].mean(axis=1, dtype=np.float32)


def _blocked(points: Floats, rays: Floats, casters: Sequence[_Caster]) -> NDArray[np.bool_]:
    """Return (N, R) bool, whether a quad is between points (N, 3) and points + rays (N, R, 3)."""
    blocked = np.zeros(rays.shape[:2], dtype=bool)
    for caster in casters:
        # (a, b, height above the plane): on the quad, height is 0 and a, b are in [0, 1].
        start = (points - caster.origin) @ caster.local.T
        height, climb = start[:, 2], rays @ caster.local[2]
        # The other end must be beyond the plane, which is only true for few rays.
        beyond = (height[:, None] > 0) != (height[:, None] + (1 - _CLEARANCE_M) * climb > 0)
        beyond &= (np.abs(height) > _CLEARANCE_M / 2)[:, None] & ~blocked
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
