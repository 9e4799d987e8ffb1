"""Draw a model town from above: many photos with exact poses, and no place like another.

    python benchmarks/town.py OUT --photos 1000 [--size 320 240] [--seed 0]

A flight in parallel lines over blocks of houses, each with textures of its own. The town grows with
the number of photos, so that a photo sees what a few dozen others see, however many there are. At
320 x 240 a pixel is 1.3 cm wide on the ground, as on the walls of the drawn rooms. OUT gets what
``disk-hloc dataset`` writes of a room: images/, poses.txt and camera.txt.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from disk_hloc.synthetic_room import materials
from disk_hloc.synthetic_room.camera import look_at
from disk_hloc.synthetic_room.dataset import write_scene
from disk_hloc.synthetic_room.world import Image, Quad, Scene, box, turned

Array = NDArray[np.float64]

TILE_M = 1.5
HEIGHT_M = 3.2
# From photo to photo in a line, and from line to line: four fifths and three fifths of a photo are
# on the next one.
STEP_M = (0.85, 1.3)
_TILT = np.radians(20)  # the largest angle from straight down
_REACH_M = 5.0  # nothing that is farther from the point below a camera is on its photo
_LIGHT = {"south": 0.95, "east": 0.8, "north": 0.55, "west": 0.7}
_TEXTURES = (materials.plaster, materials.bricks, materials.broken_plaster, materials.planks)
_COARSER = 3  # textures are drawn for surfaces this much smaller: 140 texels per metre


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw(args.out, args.photos, size=tuple(args.size), seed=args.seed)


def draw(folder: Path, photos: int, *, size: tuple[int, int] = (320, 240), seed: int = 0) -> Path:
    """Draw the photos of a flight; their names are in its order."""
    poses = flight(photos, seed)
    tile = cache(partial(_tile, seed))
    return write_scene(
        folder,
        scene=Scene(()),
        size=size,
        cam_from_world=poses,
        moving=partial(_below, tile),
        seed=seed,
    )


def flight(photos: int, seed: int) -> Array:
    """Return the (photos, 3, 4) poses of a flight to and fro, in metres, over about a square.

    The camera keeps its heading, since features do not match turned photos; the wind moves, tilts
    and turns it.
    """
    rng = np.random.default_rng([seed, photos])
    per_line = max(1, round((photos * STEP_M[1] / STEP_M[0]) ** 0.5))
    poses = []
    for number in range(photos):
        line, along = divmod(number, per_line)
        if line % 2:
            along = per_line - 1 - along
        x, y = STEP_M[0] * along, STEP_M[1] * line
        eye = np.array([x, y, HEIGHT_M]) + rng.uniform(-0.15, 0.15, 3)
        tilt, direction = _TILT * rng.random() ** 0.5, rng.uniform(0, 2 * np.pi)
        down = np.array(
            [np.sin(tilt) * np.cos(direction), np.sin(tilt) * np.sin(direction), -np.cos(tilt)]
        )
        turn = rng.uniform(-0.2, 0.2)
        poses.append(look_at(eye, eye + down, (np.sin(turn), np.cos(turn), 0.0)))
    return np.array(poses)


def _below(tile: Callable[[int, int], tuple[Quad, ...]], _view: int, pose: Array) -> list[Quad]:
    """Return the surfaces near a camera."""
    x, y, _ = -pose[:, :3].T @ pose[:, 3]
    columns, rows = (
        range(int((at - _REACH_M) // TILE_M), int((at + _REACH_M) // TILE_M) + 1) for at in (x, y)
    )
    return [quad for row in rows for column in columns for quad in tile(column, row)]


def _tile(seed: int, column: int, row: int) -> tuple[Quad, ...]:
    """Return a piece of the ground and the house on it, the same at each call."""
    rng = np.random.default_rng([seed, column + 1000, row + 1000])
    ground = _surface(rng, TILE_M, TILE_M)
    corner = np.array([column * TILE_M, (row + 1) * TILE_M, 0.0])
    width, depth = rng.uniform(0.4, 0.95, 2)
    height = rng.uniform(0.15, 0.8)
    middle = np.array([TILE_M / 2, -TILE_M / 2, height / 2])
    centre = corner + middle + (*rng.uniform(-0.2, 0.2, 2), 0.0)
    sides = {"south": width, "east": depth, "north": width, "west": depth}
    walls = {
        face: _shaded(_surface(rng, side, height), _LIGHT[face]) for face, side in sides.items()
    }
    house = box(
        f"house {column} {row}",
        centre,
        (width, depth, height),
        {**walls, "top": _surface(rng, width, depth)},
        turned(rng.uniform(0, np.pi / 2)),
    )
    floor = Quad(
        "ground", corner, np.array([TILE_M, 0, 0]), np.array([0, -TILE_M, 0]), ground, "ground"
    )
    return floor, *house


def _surface(rng: np.random.Generator, width: float, height: float) -> Image:
    """Return one of the textures at random, in a colour at random."""
    draw_texture = _TEXTURES[rng.integers(len(_TEXTURES))]
    tint = rng.uniform(80, 210, 3)
    return draw_texture(rng, width / _COARSER, height / _COARSER, tint)


def _shaded(image: Image, light: float) -> Image:
    return (image * np.float32(light)).astype(np.uint8)


if __name__ == "__main__":
    main()
