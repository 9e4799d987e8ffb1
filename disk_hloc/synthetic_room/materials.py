"""Generate textures of surfaces: bricks, plaster, planks, shelves of books, framed pictures.

Every function takes a random generator and the size of the surface in metres, and returns (H, W, 3)
uint8 RGB with `TEXELS_PER_M`. No patch is repeated, since repeated patches cannot be matched.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .photos import photo

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

TEXELS_PER_M = 420


def shape_of(width: float, height: float) -> tuple[int, int]:
    """Return the rows and columns of the texture of a surface with a size in metres."""
    return max(2, round(height * TEXELS_PER_M)), max(2, round(width * TEXELS_PER_M))


def clouds(
    rng: np.random.Generator, shape: tuple[int, int], coarse: float, fine: float, gain: float = 0.6
) -> Floats:
    """Generate smooth noise (H, W) float32 of mean 0 and deviation 1 on a range of scales.

    `coarse` and `fine` are the limits of the wavelength in texels; each octave has `gain` times the
    strength of the coarser one.
    """
    total = np.zeros(shape, dtype=np.float32)
    strength, wavelength = 1.0, coarse
    while wavelength >= fine:
        grid = (int(shape[0] / wavelength) + 3, int(shape[1] / wavelength) + 3)
        values = rng.standard_normal(grid, dtype=np.float32)
        total += strength * cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
        strength *= gain
        wavelength /= 2
    return ((total - total.mean()) / (total.std() + 1e-6)).astype(np.float32)


def grain(rng: np.random.Generator, shape: tuple[int, int], source: str) -> Floats:
    """Generate fine structure (H, W) float32 of mean 0 and deviation 1 from a photograph.

    Two layers of the photograph at different angles and scales are added: both layers repeat, but
    their sum does not.
    """
    grey = _detail(source)
    total = np.zeros(shape, dtype=np.float32)
    for _ in range(2):
        angle, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1)
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        shift = rng.uniform(0, 512, 2)
        total += cv2.warpAffine(
            grey,
            np.array([[c, -s, shift[0]], [s, c, shift[1]]]),
            (shape[1], shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
    return ((total - total.mean()) / (total.std() + 1e-6)).astype(np.float32)


@cache
def _detail(source: str) -> Floats:
    """Return a photograph in grey without its low frequencies, (H, W) float32."""
    grey = photo(source)[:, :, 1].astype(np.float32)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 20), np.float32)


def plaster(
    rng: np.random.Generator, width: float, height: float, tint: ArrayLike, wear: float = 0.12
) -> Image:
    """Generate old painted plaster with stains, specks and cracks; `tint` is RGB in 0..255."""
    shape = shape_of(width, height)
    tone = 1 + wear * (0.6 * clouds(rng, shape, 500, 6) + 0.45 * grain(rng, shape, "gravel.png"))
    stain = np.clip(clouds(rng, shape, 220, 5, 0.7) - 0.9, 0, 1.2)
    tone -= 1.6 * wear * stain
    _crack(rng, tone, count=int(2 + 1.4 * width * height))
    _speckle(rng, tone, count=int(180 * width * height))
    hue = 1 + 0.025 * np.stack([clouds(rng, shape, 400, 50) for _ in range(3)], axis=-1)
    return _to_image(np.asarray(tint, np.float32) * hue * tone[:, :, None])


def _crack(rng: np.random.Generator, tone: NDArray[np.floating], count: int) -> None:
    height, width = tone.shape
    for _ in range(count):
        steps = int(rng.integers(12, 45))
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.45, steps))
        path = np.cumsum(14 * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
        path += rng.uniform(0, 1, 2) * (width, height)
        ink = np.zeros(tone.shape, dtype=np.uint8)
        cv2.polylines(
            ink, [np.rint(path * 16).astype(np.int32)], False, 255, 2, cv2.LINE_AA, shift=4
        )
        rows = slice(max(0, int(path[:, 1].min()) - 4), max(0, int(path[:, 1].max()) + 5))
        columns = slice(max(0, int(path[:, 0].min()) - 4), max(0, int(path[:, 0].max()) + 5))
        tone[rows, columns] *= 1 - rng.uniform(0.3, 0.55) * (ink[rows, columns] / np.float32(255))


def _speckle(rng: np.random.Generator, tone: NDArray[np.floating], count: int) -> None:
    height, width = tone.shape
    ink = np.zeros(tone.shape, dtype=np.uint8)
    centres = np.rint(rng.uniform(0, 1, (count, 2)) * (width, height) * 16).astype(int)
    radii = np.rint(16 * rng.exponential(1.1, count) + 10).astype(int)
    for centre, radius, depth in zip(centres, radii, rng.integers(40, 255, count), strict=True):
        cv2.circle(
            ink,
            (int(centre[0]), int(centre[1])),
            int(radius),
            int(depth),
            -1,
            cv2.LINE_AA,
            shift=4,
        )
    tone *= 1 - 0.4 * (ink / np.float32(255))


def bricks(
    rng: np.random.Generator, width: float, height: float, tint: ArrayLike = (158, 92, 68)
) -> Image:
    """Generate a wall of bricks of different shades on uneven mortar."""
    shape = shape_of(width, height)
    mortar = np.array([168, 160, 148], np.float32)
    colour = np.broadcast_to(mortar, (*shape, 3)).astype(np.float32)
    relief = np.zeros(shape, dtype=np.float32)
    brick_h, brick_w, gap = (
        0.075 * TEXELS_PER_M,
        0.24 * TEXELS_PER_M,
        0.011 * TEXELS_PER_M,
    )
    for course in range(int(shape[0] / brick_h) + 1):
        start = -brick_w * (0.5 * (course % 2) + rng.uniform(0, 0.12))
        top = course * brick_h
        while start < shape[1]:
            length = brick_w * rng.uniform(0.88, 1.1)
            x0, x1 = (round(v) for v in (start + gap / 2, start + length - gap / 2))
            wobble = rng.uniform(-1.2, 1.2, 2)
            y0 = round(top + gap / 2 + wobble[0])
            y1 = round(top + brick_h - gap / 2 + wobble[1])
            window = (slice(max(0, y0), max(0, y1)), slice(max(0, x0), max(0, x1)))
            shade = np.asarray(tint, np.float32) * rng.normal(1, 0.13)
            colour[window] = shade * (1 + rng.normal(0, 0.05, 3))
            relief[window] = 1
            start += length
    edge = cv2.Sobel(cv2.GaussianBlur(relief, (0, 0), 1.2), cv2.CV_32F, 0, 1, ksize=3)
    tone = 1 + 0.09 * grain(rng, shape, "gravel.png") + 0.09 * clouds(rng, shape, 300, 4, 0.75)
    tone += 0.13 * edge
    _speckle(rng, tone, count=int(90 * width * height))
    return _to_image(cv2.GaussianBlur(colour, (0, 0), 0.8) * tone[:, :, None])


def broken_plaster(rng: np.random.Generator, width: float, height: float, tint: ArrayLike) -> Image:
    """Generate plaster that has fallen off in places and shows the bricks below."""
    shape = shape_of(width, height)
    hole = clouds(rng, shape, 420, 8, 0.5)
    share = np.clip((hole - 0.75) * 14, 0, 1)[:, :, None]
    rim = np.clip(1 - np.abs(hole - 0.72) * 9, 0, 1)[:, :, None]
    over, under = plaster(rng, width, height, tint), bricks(rng, width, height)
    return _to_image((over * (1 - share) + under * share) * (1 - 0.35 * rim))


def planks(
    rng: np.random.Generator,
    width: float,
    height: float,
    tint: ArrayLike = (150, 108, 70),
    board: float = 0.14,
) -> Image:
    """Generate wooden boards, `board` metres wide, along the longer side of the surface."""
    if height > width:
        return np.ascontiguousarray(planks(rng, height, width, tint, board).transpose(1, 0, 2))
    shape = shape_of(width, height)
    colour = np.zeros((*shape, 3), dtype=np.float32)
    joint = np.ones(shape, dtype=np.float32)
    breadth = min(board * TEXELS_PER_M, shape[0])
    for lane in range(int(np.ceil(shape[0] / breadth))):
        rows = slice(int(lane * breadth), min(shape[0], int((lane + 1) * breadth)))
        start = -int(rng.uniform(0, 1.2) * TEXELS_PER_M)
        while start < shape[1]:
            stop = start + int(rng.uniform(0.8, 1.9) * TEXELS_PER_M)
            columns = slice(max(0, start), max(0, min(stop, shape[1])))
            colour[rows, columns] = np.asarray(tint, np.float32) * (
                rng.normal(1, 0.13) + rng.normal(0, 0.025, 3)
            )
            joint[rows, columns.start : columns.start + 2] = 0.45
            start = stop
        joint[rows.start : rows.start + 2] = 0.4
    # Noise that is stretched along the board looks like the fibres of wood.
    short = (shape[0], max(2, shape[1] // 14))
    fibre = cv2.resize(clouds(rng, short, 60, 2, 0.9), (shape[1], shape[0]))
    tone = 1 + 0.10 * fibre + 0.05 * grain(rng, shape, "grass.png")
    tone += 0.05 * clouds(rng, shape, 120, 4, 0.8)
    _speckle(rng, tone, count=int(60 * width * height))
    return _to_image(colour * (tone * cv2.GaussianBlur(joint, (0, 0), 0.7))[:, :, None])


def books(rng: np.random.Generator, width: float, height: float) -> Image:
    """Generate a row of books' spines of different heights and colours."""
    shape = shape_of(width, height)
    image = np.full((*shape, 3), (34, 27, 22), dtype=np.float32)
    letters = photo("text.png")[:, :, 1].astype(np.float32)
    left = 1
    while left < shape[1] - 6:
        thick = min(int(rng.uniform(0.018, 0.055) * TEXELS_PER_M), shape[1] - 1 - left)
        top = int(rng.uniform(0.04, 0.32) * shape[0])
        spine = np.ones((shape[0] - top, thick), dtype=np.float32)
        hue = rng.uniform(35, 215) * rng.uniform(0.45, 1.15, 3)
        y, x = int(rng.integers(0, 172 - 24)), int(rng.integers(0, 448 - 100))
        title = cv2.rotate(letters[y : y + 24, x : x + 100], cv2.ROTATE_90_CLOCKWISE)
        room = (max(1, int(spine.shape[0] * 0.5)), max(1, int(thick * 0.7)))
        title = cv2.resize(title, (room[1], room[0]), interpolation=cv2.INTER_AREA)
        y0, x0 = int(spine.shape[0] * rng.uniform(0.1, 0.4)), int(thick * 0.15)
        ink = rng.choice([-0.6, 0.9])
        spine[y0 : y0 + room[0], x0 : x0 + room[1]] += ink * (title < np.median(title) - 25)
        for band in rng.uniform(0.02, 0.98, 3):
            spine[int(band * spine.shape[0]) :][:2] *= rng.uniform(0.5, 1.6)
        spine[:, :1] *= 0.4
        spine[:, -1:] *= 0.5
        image[top:, left : left + thick] = hue * spine[:, :, None]
        left += thick
    return _to_image(image * (1 + 0.05 * grain(rng, shape, "gravel.png"))[:, :, None])


def picture(
    name: str, crop: tuple[float, float, float, float] = (0, 0, 1, 1), mirror: bool = False
) -> Image:
    """Return a photograph, or the part (x0, y0, x1, y1) of it in fractions, without a frame.

    A mirrored copy has no features in common with the photograph, so both may be in one scene.
    """
    image = photo(name)
    height, width = image.shape[:2]
    x0, y0, x1, y1 = crop
    part = image[int(y0 * height) : int(y1 * height), int(x0 * width) : int(x1 * width)]
    return np.ascontiguousarray(part[:, ::-1] if mirror else part)


def framed(
    rng: np.random.Generator, image: Image, tint: ArrayLike, mat: float = 0.06, frame: float = 0.045
) -> Image:
    """Frame a picture with a mat and wood; their widths are fractions of the longer side."""
    side = max(image.shape[:2])
    inner, outer = int(mat * side), int(frame * side)
    paper = cv2.copyMakeBorder(
        image, inner, inner, inner, inner, cv2.BORDER_CONSTANT, value=(226, 221, 210)
    )
    h, w = paper.shape[0] + 2 * outer, paper.shape[1] + 2 * outer
    wood = planks(rng, w / TEXELS_PER_M, h / TEXELS_PER_M, tint, board=0.3)
    wood = cv2.resize(wood, (w, h)).astype(np.uint8)
    wood[outer - 2 : h - outer + 2, outer - 2 : w - outer + 2] //= 3
    wood[outer : h - outer, outer : w - outer] = paper
    return wood


def crate(
    rng: np.random.Generator, width: float, height: float, sticker: Image | None = None
) -> Image:
    """Generate the side of a wooden crate with battens along its rim and a tilted `sticker`."""
    side = planks(rng, width, height, (172, 134, 88), board=0.11)
    h, w = side.shape[:2]
    batten = min(int(0.06 * TEXELS_PER_M), h // 4, w // 4)
    rim = planks(rng, width, height, (140, 100, 62), board=0.06)
    for window in (
        np.s_[:batten],
        np.s_[h - batten :],
        np.s_[:, :batten],
        np.s_[:, w - batten :],
    ):
        side[window] = rim[window]
    side[batten : batten + 3, batten : w - batten] //= 2
    side[batten : h - batten, batten : batten + 3] //= 2
    if sticker is not None:
        scale = 0.62 * min(w / sticker.shape[1], h / sticker.shape[0])
        turn = cv2.getRotationMatrix2D(
            (sticker.shape[1] / 2, sticker.shape[0] / 2), float(rng.uniform(-9, 9)), scale
        )
        turn[:, 2] += (w / 2 - sticker.shape[1] / 2, h / 2 - sticker.shape[0] / 2)
        alpha = cv2.warpAffine(
            np.full(sticker.shape[:2], 255, np.uint8), turn, (w, h), flags=cv2.INTER_AREA
        )
        print_ = cv2.warpAffine(
            sticker, turn, (w, h), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        share = alpha[:, :, None] / np.float32(255)
        side = _to_image(side * (1 - share) + print_ * share)
    return side


def carpet(rng: np.random.Generator, width: float, height: float, image: Image) -> Image:
    """Generate a carpet with a woven picture and a border."""
    h, w = shape_of(width, height)
    edge = int(0.12 * TEXELS_PER_M)
    woven = cv2.resize(image, (w - 2 * edge, h - 2 * edge), interpolation=cv2.INTER_CUBIC)
    border = cv2.resize(photo("ihc.png"), (w, h), interpolation=cv2.INTER_CUBIC) * np.array(
        [0.75, 0.45, 0.4], np.float32
    )
    border[edge:-edge, edge:-edge] = 20 + woven.astype(np.float32) * 0.85
    for inset in (edge // 6, edge - 3):
        cv2.rectangle(border, (inset, inset), (w - inset, h - inset), (205, 180, 120), 3)
    tone = 1 + 0.10 * grain(rng, (h, w), "grass.png") + 0.05 * clouds(rng, (h, w), 80, 3, 0.8)
    return _to_image(border * tone[:, :, None])


def _to_image(colour: ArrayLike) -> Image:
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)
