"""The parts of a scene: textured parallelograms, grouped into named objects."""

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
    """A textured parallelogram: origin + a u + b v for a, b in [0, 1].

    It is visible from both sides. From the front, to which `normal` points, the texture is not
    mirrored.

    Attributes:
        name: name for error messages, which does not have to be unique.
        origin, u, v: (3,) float64 in world coordinates, in metres.
        texture: (H, W, 3) uint8 RGB; its top-left corner is at `origin`, columns increase along `u`
            and rows along `v`.
        object_name: name of the object that the quad belongs to, see `Scene.object_names`.

    Raises:
        ValueError: an array has another shape, or the parallelogram has no area.
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
                raise ValueError(f"quad {self.name}: {field} must be three finite numbers")
            object.__setattr__(self, field, vector)
        if self.texture.ndim != 3 or self.texture.shape[2] != 3 or self.texture.dtype != np.uint8:
            raise ValueError(f"quad {self.name}: texture must be (H, W, 3) uint8")
        if self.area <= 1e-12:
            raise ValueError(f"quad {self.name}: u and v are parallel or zero")

    @property
    def area(self) -> float:
        """The area in square metres."""
        return float(np.linalg.norm(np.cross(self.u, self.v)))

    @property
    def normal(self) -> Array:
        """The unit normal (3,) on the front side."""
        normal = np.cross(self.v, self.u)
        return normal / np.linalg.norm(normal)

    @property
    def corners(self) -> Array:
        """The corners (4, 3) in order around the outline, starting at the origin."""
        return self.origin + np.stack([0 * self.u, self.u, self.u + self.v, self.v])

    @cached_property
    def mipmap(self) -> Mipmap:
        """The texture at all scales, computed once when first rendered."""
        return Mipmap.from_texture(self.texture)


@dataclass(frozen=True, eq=False)
class Scene:
    """Quads and the objects that they form, in world coordinates in metres."""

    quads: tuple[Quad, ...]

    @cached_property
    def object_names(self) -> tuple[str, ...]:
        """The names of the objects in order of first appearance; labels are their indices."""
        return tuple(dict.fromkeys(quad.object_name for quad in self.quads))

    @cached_property
    def object_of_quad(self) -> NDArray[np.int32]:
        """The label of each quad, (len(quads),) int32."""
        index = {name: i for i, name in enumerate(self.object_names)}
        return np.array([index[quad.object_name] for quad in self.quads], dtype=np.int32)

    def mesh(self) -> tuple[Array, NDArray[np.int64]]:
        """Return the surfaces: corners (4 Q, 3) in metres, and (2 Q, 3) triangles of them."""
        corners = np.array([quad.corners for quad in self.quads]).reshape(-1, 3)
        first = 4 * np.arange(len(self.quads))[:, None, None]
        return corners, (first + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """Return the labels of objects.

        Raises:
            ValueError: the scene has no object of a name.
        """
        unknown = sorted(set(names) - set(self.object_names))
        if unknown:
            raise ValueError(
                f"no such object: {', '.join(unknown)}; the scene has: "
                f"{', '.join(self.object_names)}"
            )
        return [self.object_names.index(name) for name in names]


def turned(yaw: float) -> Array:
    """Return a rotation (3, 3) about the z axis by `yaw` radians, anticlockwise seen from above."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def box(
    object_name: str,
    centre: ArrayLike,
    size: ArrayLike,
    textures: Mapping[str, Image],
    rotation: ArrayLike | None = None,
) -> list[Quad]:
    """Return the faces of a box.

    A face that can never be seen (on the floor, at a wall) should be left out, since it would
    coincide with the surface that it touches.

    Args:
        object_name: name of the object.
        centre: (3,) in metres.
        size: (3,) extent along the axes of the box in metres.
        textures: textures by face: south, east, north, west, top, bottom.
        rotation: (3, 3) world_from_box; None is the identity.
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
