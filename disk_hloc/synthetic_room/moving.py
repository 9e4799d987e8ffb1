"""A board that moves with the camera, and so misleads structure from motion.

What stands still moves in the picture by the camera's motion alone. A board that is carried along
moves otherwise: its matches agree with one another, and on a wrong motion.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import materials
from .materials import picture
from .world import Quad

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

BILLBOARD = "billboard"

# Width of a leaf, height of the board, width of a post, in metres.
_LEAF, _HEIGHT, _POST = 0.5, 0.82, 0.035

# Distance of the fold from the camera, in metres.
_DISTANCE = 1.1

# Each leaf is folded back by this angle from the plane, in radians: matches on a plane alone
# would leave the motion undecided, and structure from motion sets such pairs aside.
_FOLD = np.radians(20)

# The board swings by so much to each side, in radians, and is back after so many views.
_SWING, _PERIOD = np.radians(25), 24

# Texels a metre: the board is nearer to the camera than all else.
_PER_METRE = 1000

_LEFT = ("motorcycle_right.png", "coffee.png", "chelsea.png")
_RIGHT = ("astronaut.png", "rocket.jpg", "ihc.png")


def billboard(view: int, cam_from_world: ArrayLike) -> list[Quad]:
    """A folded board on posts that is carried before the camera: the object "billboard".

    `view` is the index of the view and `cam_from_world` (3, 4) its pose, of an upright camera,
    in metres. The board stands upright 1.1 m before the camera and covers about two fifths of a
    4:3 picture. Along `camera_path(12)` the camera goes round it by half the angle that it goes
    round the room. Raises DiskHlocError without scikit-image.
    """
    pose = np.asarray(cam_from_world, dtype=np.float64)
    eye, forward = -pose[:, :3].T @ pose[:, 3], pose[2, :3]
    heading = np.array([forward[0], forward[1], 0.0])
    heading /= np.linalg.norm(heading)
    phase = 2 * np.pi * view / _PERIOD
    turn = -_SWING * np.cos(phase)
    fold = eye + (_DISTANCE + 0.06 * np.sin(2 * phase)) * forward
    right = np.cross(heading, (0.0, 0.0, 1.0))
    fold = fold + 0.05 * np.sin(phase) * right
    top = np.array([*fold[:2], fold[2] + _HEIGHT / 2])
    quads = []
    for side, angle in (("left", turn + _FOLD), ("right", turn - _FOLD)):
        along = np.cos(angle) * right - np.sin(angle) * heading
        start = top - _LEAF * along if side == "left" else top
        down = np.array([0.0, 0.0, -_HEIGHT])
        quads.append(Quad(f"billboard/{side}", start, _LEAF * along, down, _leaf(side), BILLBOARD))
        # The posts carry the outer edges, down to the floor.
        foot = start + down if side == "left" else start + down + (_LEAF - _POST) * along
        if foot[2] > 0:
            length = np.array([0.0, 0.0, -foot[2]])
            quads.append(
                Quad(f"billboard/{side} post", foot, _POST * along, length, _post(), BILLBOARD)
            )
    return quads


@cache
def _leaf(side: str) -> Image:
    """Three photographs, one above the other, in even light from above.

    No shadow is baked in, as it would have to move with the board.
    """
    width, height = int(_LEAF * _PER_METRE), int(_HEIGHT * _PER_METRE)
    rim, names = 8, _LEFT if side == "left" else _RIGHT
    leaf = np.full((height, width, 3), (226, 221, 210), dtype=np.float32)
    edges = np.linspace(rim, height, len(names) + 1).astype(int)
    for name, top, end in zip(names, edges[:-1], edges[1:], strict=True):
        # Mirrored, they have nothing in common with the pictures on the walls.
        image = picture(name, mirror=True)
        # The part that has the shape of its place, near the top, where faces are.
        rows = min(image.shape[0], image.shape[1] * (end - rim - top) // (width - 2 * rim))
        above = (image.shape[0] - rows) // 6
        place = (width - 2 * rim, int(end) - rim - int(top))
        leaf[top : end - rim, rim:-rim] = cv2.resize(
            image[above : above + rows], place, interpolation=cv2.INTER_CUBIC
        )
    light = np.linspace(1.0, 0.86, height)[:, None, None] * (1.0 if side == "left" else 0.93)
    shared = np.clip(np.rint(leaf * light), 0, 255).astype(np.uint8)
    shared.flags.writeable = False
    return shared


@cache
def _post() -> Image:
    shared = materials.planks(np.random.default_rng(0), _POST, 1.0, (150, 110, 64))
    shared.flags.writeable = False
    return shared
