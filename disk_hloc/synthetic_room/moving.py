"""A board that moves with the camera, and thereby misleads structure from motion.

Static objects only move in the picture by the motion of the camera. A board that is carried along
moves differently: its matches agree with each other, but on a wrong motion.
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

# Width of a leaf, height of the board, and width of a post.
_LEAF_M, _HEIGHT_M, _POST_M = 0.5, 0.82, 0.035

# Distance of the fold from the camera.
_DISTANCE_M = 1.1

# Each leaf is folded back by this angle from the plane: matches on a single plane would not
# determine the motion, and structure from motion ignores such pairs.
_FOLD_RAD = np.radians(20)

# The board swings by this angle to each side, with this period.
_SWING_RAD, _PERIOD_VIEWS = np.radians(25), 24

# More than in the room, since the board is closer to the camera than everything else.
_TEXELS_PER_M = 1000

_LEFT = ("motorcycle_right.png", "coffee.png", "chelsea.png")
_RIGHT = ("astronaut.png", "rocket.jpg", "ihc.png")


def billboard(view: int, cam_from_world: ArrayLike) -> list[Quad]:
    """Return the quads of a folded board on posts that is carried in front of the camera.

    The board is upright, 1.1 m in front of the camera, and covers about two fifths of a 4:3
    picture. Along `camera_path(12)` the camera turns around it by half the angle by which it turns
    around the room. Its object name is "billboard".

    Args:
        view: index of the view.
        cam_from_world: (3, 4) pose of an upright camera in metres.

    Raises:
        DiskHlocError: scikit-image is missing.
    """
    pose = np.asarray(cam_from_world, dtype=np.float64)
    eye, forward = -pose[:, :3].T @ pose[:, 3], pose[2, :3]
    heading = np.array([forward[0], forward[1], 0.0])
    heading /= np.linalg.norm(heading)
    phase = 2 * np.pi * view / _PERIOD_VIEWS
    turn = -_SWING_RAD * np.cos(phase)
    fold = eye + (_DISTANCE_M + 0.06 * np.sin(2 * phase)) * forward
    right = np.cross(heading, (0.0, 0.0, 1.0))
    fold = fold + 0.05 * np.sin(phase) * right
    top = np.array([*fold[:2], fold[2] + _HEIGHT_M / 2])
    quads = []
    for side, angle in (("left", turn + _FOLD_RAD), ("right", turn - _FOLD_RAD)):
        along = np.cos(angle) * right - np.sin(angle) * heading
        start = top - _LEAF_M * along if side == "left" else top
        down = np.array([0.0, 0.0, -_HEIGHT_M])
        quads.append(
            Quad(f"billboard/{side}", start, _LEAF_M * along, down, _leaf(side), BILLBOARD)
        )
        # The posts reach from the outer edges to the floor.
        foot = start + down if side == "left" else start + down + (_LEAF_M - _POST_M) * along
        if foot[2] > 0:
            length = np.array([0.0, 0.0, -foot[2]])
            quads.append(
                Quad(f"billboard/{side} post", foot, _POST_M * along, length, _post(), BILLBOARD)
            )
    return quads


@cache
def _leaf(side: str) -> Image:
    """Return three photographs, one above the other, in even light from above.

    There are no shadows, since they would have to move with the board.
    """
    width, height = int(_LEAF_M * _TEXELS_PER_M), int(_HEIGHT_M * _TEXELS_PER_M)
    rim, names = 8, _LEFT if side == "left" else _RIGHT
    leaf = np.full((height, width, 3), (226, 221, 210), dtype=np.float32)
    edges = np.linspace(rim, height, len(names) + 1).astype(int)
    for name, top, end in zip(names, edges[:-1], edges[1:], strict=True):
        # Mirrored pictures have nothing in common with those on the walls.
        image = picture(name, mirror=True)
        # Crop to the aspect ratio of the place, near the top, where faces are.
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
    shared = materials.planks(np.random.default_rng(0), _POST_M, 1.0, (150, 110, 64))
    shared.flags.writeable = False
    return shared
