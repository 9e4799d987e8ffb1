"""A furnished room, and a path of cameras through it.

x points east, y north and z up, in metres; the room extends from (0, 0, 0) to `ROOM_M`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import materials
from .camera import look_at
from .lighting import lit
from .materials import picture
from .world import Image, Quad, Scene, box, turned

Array = NDArray[np.float64]

# Extent along x, y and z.
ROOM_M = (6.0, 5.0, 3.0)

_LAMPS = [(1.6, 1.4, 2.7), (4.4, 1.4, 2.7), (3.0, 3.2, 2.7)]

# Name, photograph, part of it, wall, position of the centre along the wall and up, width.
_PICTURES = [
    ("picture_astronaut", "astronaut.png", (0, 0, 1, 1), "north", 0.75, 1.75, 0.85),
    ("picture_motorcycle", "motorcycle_left.png", (0, 0, 1, 1), "north", 4.02, 1.72, 1.2),
    ("picture_chelsea", "chelsea.png", (0, 0, 1, 1), "north", 5.35, 2.05, 0.8),
    ("picture_coins", "coins.png", (0, 0, 1, 1), "north", 5.35, 1.25, 0.66),
    ("picture_gravel", "gravel.png", (0, 0, 1, 1), "west", 1.3, 1.75, 1.0),
    ("picture_page", "page.png", (0, 0, 1, 1), "west", 2.65, 2.15, 0.85),
    ("picture_rocket", "rocket.jpg", (0.1, 0.1, 0.9, 1), "west", 2.65, 1.4, 0.9),
    ("picture_ihc", "ihc.png", (0, 0, 1, 1), "west", 3.95, 1.75, 0.95),
    ("picture_retina", "retina.jpg", (0.12, 0.12, 0.88, 0.88), "east", 3.9, 1.8, 1.0),
    ("picture_camera", "camera.png", (0, 0, 1, 1), "east", 2.65, 1.75, 0.9),
    ("picture_clock", "clock_motion.png", (0, 0, 1, 1), "east", 1.5, 2.1, 0.7),
    ("picture_coffee", "coffee.png", (0, 0, 1, 1), "east", 1.5, 1.4, 0.8),
    ("picture_moon", "moon.png", (0, 0, 1, 1), "south", 1.7, 1.7, 0.9),
    ("picture_grass", "grass.png", (0, 0, 1, 1), "south", 4.0, 1.7, 1.1),
]


def make_room(seed: int = 0) -> Scene:
    """Make a room of 6 x 5 x 3 m with a carpet, a table, crates, pillars, shelves and pictures.

    This takes a few seconds.

    Args:
        seed: seed of the textures; positions and object names are always the same.

    Raises:
        DiskHlocError: scikit-image, whose photographs are used in textures, is missing.
    """
    rng = np.random.default_rng(seed)
    quads = _shell(rng)
    for name, file, part, wall, along, up, width in _PICTURES:
        quads += _hung(rng, name, picture(file, part), wall, along, up, width)
    quads += _beams(rng)
    quads += _pillars(rng)
    quads += _shelf(rng)
    quads += _table(rng)
    quads += _crates(rng)
    quads += _screen(rng)
    return lit(Scene(tuple(quads)), _LAMPS, seed=seed)


def camera_path(num_views: int = 12) -> Array:
    """Return poses along a path through the room of `make_room`.

    The path is an arc along the south side, from west to east, which rises and falls. The cameras
    look at the furniture in the north. Of 12 views, neighbours are 0.4 m apart and see almost the
    same.

    Args:
        num_views: number of poses.

    Returns:
        cam_from_world, (num_views, 3, 4) float64 in metres, with x right, y down, z forward.

    Raises:
        ValueError: `num_views` is less than one.
    """
    if num_views < 1:
        raise ValueError("num_views must be at least 1")
    steps = np.linspace(0, 1, num_views) if num_views > 1 else np.array([0.5])
    poses = []
    for s in steps:
        eye = (
            0.75 + 4.5 * s,
            1.25 - 0.65 * np.sin(np.pi * s),
            1.55 + 0.3 * np.sin(2 * np.pi * s + 0.5),
        )
        target = (3.3 - 0.6 * s, 3.6, 1.05 + 0.1 * np.cos(2 * np.pi * s))
        poses.append(look_at(eye, target))
    return np.stack(poses)


def _shell(rng: np.random.Generator) -> list[Quad]:
    x, y, z = ROOM_M

    def surface(name: str, origin: ArrayLike, u: ArrayLike, v: ArrayLike, image: Image) -> Quad:
        return Quad(name, np.array(origin), np.array(u), np.array(v), image, name)

    rug = materials.carpet(rng, 2.7, 1.9, picture("hubble_deep_field.jpg", (0, 0.15, 1, 0.95)))
    return [
        surface("floor", (0, y, 0), (x, 0, 0), (0, -y, 0), materials.planks(rng, x, y)),
        surface(
            "ceiling",
            (0, 0, z),
            (x, 0, 0),
            (0, y, 0),
            materials.plaster(rng, x, y, (205, 200, 188)),
        ),
        surface(
            "wall_north",
            (0, y, z),
            (x, 0, 0),
            (0, 0, -z),
            materials.broken_plaster(rng, x, z, (196, 178, 140)),
        ),
        surface(
            "wall_east",
            (x, y, z),
            (0, -y, 0),
            (0, 0, -z),
            materials.bricks(rng, y, z, (150, 88, 66)),
        ),
        surface(
            "wall_south",
            (x, 0, z),
            (-x, 0, 0),
            (0, 0, -z),
            materials.bricks(rng, x, z, (176, 150, 112)),
        ),
        surface(
            "wall_west",
            (0, 0, z),
            (0, y, 0),
            (0, 0, -z),
            materials.broken_plaster(rng, y, z, (138, 160, 156)),
        ),
        surface("carpet", (1.6, 3.2, 0.008), (2.7, 0, 0), (0, -1.9, 0), rug),
    ]


def _hung(
    rng: np.random.Generator,
    name: str,
    image: Image,
    wall: str,
    along: float,
    up: float,
    width: float,
) -> list[Quad]:
    """Return a framed picture on a wall, 4 cm thick; `along` is x or y of its centre."""
    wood = (60, 42, 30) if rng.random() < 0.5 else (150, 110, 64)
    front = materials.framed(rng, image, wood)
    height = width * front.shape[0] / front.shape[1]
    thick = 0.04
    x, y, _ = ROOM_M
    yaw, centre = {
        "north": (0.0, (along, y - thick / 2, up)),
        "east": (-np.pi / 2, (x - thick / 2, along, up)),
        "south": (np.pi, (along, thick / 2, up)),
        "west": (np.pi / 2, (thick / 2, along, up)),
    }[wall]
    edges = {
        "east": materials.planks(rng, thick, height, wood),
        "west": materials.planks(rng, thick, height, wood),
        "top": materials.planks(rng, width, thick, wood),
        "bottom": materials.planks(rng, width, thick, wood),
    }
    return box(name, centre, (width, thick, height), {"south": front, **edges}, turned(yaw))


def _wooden(
    rng: np.random.Generator,
    name: str,
    centre: ArrayLike,
    size: tuple[float, float, float],
    faces: str,
    tint: ArrayLike,
    yaw: float = 0.0,
    board: float = 0.14,
) -> list[Quad]:
    """Return a wooden beam, board or leg with the space-separated `faces`."""
    extent = {
        "south": (size[0], size[2]),
        "north": (size[0], size[2]),
        "east": (size[1], size[2]),
        "west": (size[1], size[2]),
        "top": (size[0], size[1]),
        "bottom": (size[0], size[1]),
    }
    textures = {face: materials.planks(rng, *extent[face], tint, board) for face in faces.split()}
    return box(name, centre, size, textures, turned(yaw))


def _beams(rng: np.random.Generator) -> list[Quad]:
    x, _, z = ROOM_M
    quads: list[Quad] = []
    for y in (0.9, 2.0, 3.1, 4.2):
        quads += _wooden(
            rng,
            "beams",
            (x / 2, y, z - 0.1),
            (x, 0.16, 0.2),
            "south north bottom",
            (112, 80, 54),
            board=0.2,
        )
    return quads


def _pillars(rng: np.random.Generator) -> list[Quad]:
    side, height = 0.32, ROOM_M[2]
    quads: list[Quad] = []
    for name, centre, tint in (
        ("pillar_west", (1.55, 4.05), (170, 140, 110)),
        ("pillar_east", (4.85, 3.75), (120, 118, 122)),
    ):
        faces = {
            face: materials.bricks(rng, side, height, tint)
            for face in ("south", "east", "north", "west")
        }
        quads += box(name, (*centre, height / 2), (side, side, height), faces)
    return quads


def _shelf(rng: np.random.Generator) -> list[Quad]:
    """Return shelves with books at the north wall."""
    left, width, depth, height, board = 1.95, 1.3, 0.3, 2.0, 0.03
    front, wood = ROOM_M[1] - depth, (126, 84, 50)
    middle = front + depth / 2
    quads: list[Quad] = []
    for x in (left - board / 2, left + width + board / 2):
        quads += _wooden(
            rng,
            "shelf",
            (x, middle, height / 2),
            (board, depth, height),
            "south east west top",
            wood,
        )
    floors = np.linspace(0.06, height - board / 2, 6)
    for z in floors:
        quads += _wooden(
            rng,
            "shelf",
            (left + width / 2, middle, z),
            (width, depth, board),
            "south top bottom",
            wood,
        )
    for z, above in pairwise(floors):
        bottom, top = z + board / 2, above - board / 2
        # The rows stand at different depths, so that the shelves are not a flat picture.
        y = front + rng.uniform(0.03, 0.12)
        quads.append(
            Quad(
                "shelf/books",
                np.array([left, y, top]),
                np.array([width, 0, 0]),
                np.array([0, 0, bottom - top]),
                materials.books(rng, width, top - bottom),
                "shelf",
            )
        )
    return quads


def _table(rng: np.random.Generator) -> list[Quad]:
    """Return a slightly rotated table and the objects on it."""
    centre, size, top, yaw = np.array([2.95, 2.45, 0.0]), (1.5, 0.8), 0.75, 0.22
    wood, r = (128, 78, 46), turned(yaw)
    quads = _wooden(
        rng,
        "table",
        np.add(centre, (0, 0, top - 0.02)),
        (*size, 0.04),
        "south east north west top bottom",
        wood,
        yaw,
        board=0.2,
    )
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot = centre + r @ (sx * (size[0] / 2 - 0.06), sy * (size[1] / 2 - 0.06), 0)
            leg = (0.06, 0.06, top - 0.04)
            quads += _wooden(
                rng,
                "table",
                np.add(foot, (0, 0, leg[2] / 2)),
                leg,
                "south east north west",
                wood,
                yaw,
            )

    def place(
        name: str,
        spot: tuple[float, float],
        extent: tuple[float, float, float],
        turn: float,
        faces: dict[str, Image],
    ) -> list[Quad]:
        at = centre + r @ (*spot, 0) + (0, 0, top + extent[2] / 2)
        return box(name, at, extent, faces, turned(yaw + turn))

    def pages(width: float, height: float) -> Image:
        return materials.books(rng, width, height)

    quads += place(
        "book",
        (-0.45, -0.12),
        (0.34, 0.26, 0.05),
        0.4,
        {
            "top": picture("chelsea.png", mirror=True),
            "south": pages(0.34, 0.05),
            "east": pages(0.26, 0.05),
            "west": pages(0.26, 0.05),
            "north": pages(0.34, 0.05),
        },
    )
    card = picture("text.png")
    quads += place(
        "papers", (0.12, -0.22), (0.42, 0.16, 0.006), -0.25, {"top": card, "south": card[-4:]}
    )
    tins = {
        "south": picture("astronaut.png", (0.1, 0, 0.9, 1), mirror=True),
        "west": picture("ihc.png", (0, 0, 0.8, 1), mirror=True),
        "east": picture("coffee.png", (0.2, 0, 0.7, 1), mirror=True),
        "north": picture("moon.png", mirror=True),
        "top": picture("coins.png", mirror=True),
    }
    quads += place("tin", (0.42, 0.1), (0.24, 0.24, 0.3), 0.5, tins)
    carton = {
        face: picture("motorcycle_right.png", (0.2 * i, 0.0, 0.2 * i + 0.2, 0.9), mirror=True)
        for i, face in enumerate(("south", "east", "north", "west", "top"))
    }
    quads += place("carton", (-0.1, 0.2), (0.16, 0.12, 0.22), -0.3, carton)
    return quads


def _crates(rng: np.random.Generator) -> list[Quad]:
    quads: list[Quad] = []
    for name, centre, size, yaw, south, west, east in (
        (
            "crate_large",
            (4.45, 2.95, 0.0),
            (0.75, 0.75, 0.7),
            -0.35,
            "moon",
            "page",
            "clock_motion",
        ),
        ("crate_small", (4.42, 2.98, 0.7), (0.42, 0.42, 0.4), 0.25, "rocket", "camera", ""),
        ("crate_west", (1.0, 3.1, 0.0), (0.65, 0.55, 0.5), 0.5, "retina", "", "coffee"),
        ("crate_tall", (5.35, 4.4, 0.0), (0.6, 0.6, 0.8), 0.1, "cell", "text", ""),
    ):
        w, d, h = size
        faces = {
            "south": materials.crate(rng, w, h, _sticker(south)),
            "west": materials.crate(rng, d, h, _sticker(west)),
            "east": materials.crate(rng, d, h, _sticker(east)),
            "north": materials.crate(rng, w, h),
            "top": materials.crate(rng, w, d),
        }
        quads += box(name, np.add(centre, (0, 0, h / 2)), size, faces, turned(yaw))
    return quads


def _sticker(name: str) -> Image | None:
    if not name:
        return None
    return picture(name + (".jpg" if name in ("retina", "rocket") else ".png"), mirror=True)


def _screen(rng: np.random.Generator) -> list[Quad]:
    """Return a folding screen with two leaves in the north-west corner."""
    corners = [(0.12, 4.0), (0.5, 4.35), (0.62, 4.85)]
    quads = []
    for i, (start, end) in enumerate(pairwise(corners)):
        side = np.subtract(end, start)
        height = 1.2
        leaf = materials.framed(
            rng,
            picture("hubble_deep_field.jpg", (0.5 * i, 0.0, 0.5 * i + 0.5, 1.0), mirror=True),
            (70, 50, 40),
        )
        quads.append(
            Quad(
                f"screen/{i}",
                np.array([*start, height]),
                np.array([*side, 0]),
                np.array([0, 0, -height]),
                leaf,
                "screen",
            )
        )
    return quads
