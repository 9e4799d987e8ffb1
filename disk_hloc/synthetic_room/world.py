"""What a scene is made of: textured rectangles, gathered into named objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .mipmap import Mipmap

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Quad:
    """A textured parallelogram: origin + a u + b v for a, b in [0, 1], in metres.

    `origin`, `u` and `v` are (3,) float64 in world coordinates. `texture` is (H, W, 3) uint8 RGB:
    its top-left corner lies at `origin`, its columns run along `u`, its rows along `v`. It is
    visible from both sides; from the front, to which `normal` points, it is not mirrored.
    `name` serves error messages and need not be unique; `object_name` is what labels tell apart.
    Raises ValueError for arrays of other shapes and for a parallelogram without area.
    """

    name: str
    origin: Array
    u: Array
    v: Array
    texture: Image
    object_name: str

    def __post_init__(self) -> None:
        for field in ("origin", "u", "v"):
            vector = np.array(getattr(self, field), dtype=np.float64)
            if vector.shape != (3,) or not np.isfinite(vector).all():
                raise ValueError(f"quad {self.name}: {field} is not three finite numbers")
            object.__setattr__(self, field, vector)
        if self.texture.ndim != 3 or self.texture.shape[2] != 3 or self.texture.dtype != np.uint8:
            raise ValueError(f"quad {self.name}: texture is not (H, W, 3) uint8")
        if self.area <= 1e-12:
            raise ValueError(f"quad {self.name}: u and v are parallel or zero")

    @property
    def area(self) -> float:
        """Area in square metres."""
        return float(np.linalg.norm(np.cross(self.u, self.v)))

    @property
    def normal(self) -> Array:
        """Unit normal (3,) on the front side."""
        normal = np.cross(self.v, self.u)
        return normal / np.linalg.norm(normal)

    @property
    def corners(self) -> Array:
        """Corners (4, 3) in order around the outline, starting at the origin."""
        return self.origin + np.stack([0 * self.u, self.u, self.u + self.v, self.v])

    @cached_property
    def mipmap(self) -> Mipmap:
        """The texture at all scales; made once, at the first rendering."""
        return Mipmap.from_texture(self.texture)


@dataclass(frozen=True, eq=False)
class Scene:
    """Quads and the objects that they form; world coordinates in metres."""

    quads: tuple[Quad, ...]

    @cached_property
    def object_names(self) -> tuple[str, ...]:
        """Names of the objects in order of first appearance; labels are indices into this."""
        return tuple(dict.fromkeys(quad.object_name for quad in self.quads))

    @cached_property
    def object_of_quad(self) -> NDArray[np.int32]:
        """For each quad its label, (len(quads),) int32."""
        index = {name: i for i, name in enumerate(self.object_names)}
        return np.array([index[quad.object_name] for quad in self.quads], dtype=np.int32)

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """Labels of the objects `names`; raises ValueError for a name that the scene lacks."""
        unknown = sorted(set(names) - set(self.object_names))
        if unknown:
            raise ValueError(
                f"no such object: {', '.join(unknown)}; the scene has: "
                f"{', '.join(self.object_names)}"
            )
        return [self.object_names.index(name) for name in names]


def turned(yaw: float) -> Array:
    """Rotation (3, 3) about the vertical by `yaw` in radians, anticlockwise seen from above."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def box(
    object_name: str,
    centre: ArrayLike,
    size: ArrayLike,
    textures: Mapping[str, Image],
    rotation: ArrayLike | None = None,
) -> list[Quad]:
    """The faces of a box that `textures` names: south, east, north, west, top, bottom.

    `centre` (3,) in metres, `size` (3,) along the box's own axes, which `rotation` (3, 3),
    world_from_box, turns. A face that can never be seen (on the floor, against a wall) should be
    left out: it would coincide with what it touches.
    """
    half = np.asarray(size, dtype=np.float64) / 2
    r = np.eye(3) if rotation is None else np.asarray(rotation, dtype=np.float64)
    middle = np.asarray(centre, dtype=np.float64)
    axes = {
        "south": ([1, 0, 0], [0, 0, -1]),
        "east": ([0, 1, 0], [0, 0, -1]),
        "north": ([-1, 0, 0], [0, 0, -1]),
        "west": ([0, -1, 0], [0, 0, -1]),
        "top": ([1, 0, 0], [0, -1, 0]),
        "bottom": ([1, 0, 0], [0, 1, 0]),
    }
    quads = []
    for face, texture in textures.items():
        right, down = (np.array(axis, dtype=np.float64) for axis in axes[face])
        corner = half * (np.cross(down, right) - right - down)
        quads.append(
            Quad(
                name=f"{object_name}/{face}",
                origin=middle + r @ corner,
                u=r @ (2 * half * right),
                v=r @ (2 * half * down),
                texture=texture,
                object_name=object_name,
            )
        )
    return quads
