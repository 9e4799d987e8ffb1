"""What pictures are drawn with: photos side by side, dots on keypoints, lines between matches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import ImageReadError, read_image
from disk_hloc.io.replace import replaced

Color = tuple[int, int, int]

BACKGROUND: Color = (18, 20, 26)
GOOD_COLOR: Color = (90, 255, 90)
BAD_COLOR: Color = (255, 60, 40)
# Drawn larger and shrunk, so that points and lines have smooth edges.
ZOOM = 2


def read_photo(path: Path) -> np.ndarray:
    """Read a photo to draw on, (H, W, 3) uint8 RGB.

    Raises:
        DiskHlocError: it cannot be read.
    """
    try:
        return read_image(path)
    except ImageReadError as error:
        raise DiskHlocError(f"{path} cannot be read: {error}") from error


def to_image(photo: np.ndarray) -> Image.Image:
    """Return a photo, (H, W, 3) uint8 RGB, as an image to draw on."""
    return Image.fromarray(np.ascontiguousarray(photo))


def side_by_side(
    images: Sequence[Image.Image], background: Color = (0, 0, 0)
) -> tuple[Image.Image, list[int]]:
    """Put images in a row.

    Returns:
        The picture, as high as the highest image, and the left edge of each in pixels.
    """
    lefts = [sum(image.width for image in images[:i]) for i in range(len(images))]
    size = (sum(image.width for image in images), max(image.height for image in images))
    row = Image.new("RGB", size, background)
    for left, image in zip(lefts, images, strict=True):
        row.paste(image, (left, 0))
    return row, lefts


def dimmed(image: Image.Image, share: float = 0.35) -> Image.Image:
    """Blend an image with this share of the background, so that what is drawn stands out."""
    return Image.blend(image, Image.new("RGB", image.size, BACKGROUND), share)


def shrunk(image: Image.Image) -> Image.Image:
    """Shrink what was drawn :data:`ZOOM` times as large."""
    size = (image.width // ZOOM, image.height // ZOOM)
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_dots(
    canvas: ImageDraw.ImageDraw,
    points: np.ndarray,
    colors: Color | Iterable[Color],
    radius: float,
    outline: Color | None = None,
) -> None:
    """Draw a dot on each of (N, 2) points, (0, 0) at the centre of the top-left pixel.

    Args:
        canvas: of the picture.
        points: x and y in pixels of the picture.
        colors: of all dots, or one for each.
        radius: in pixels.
        outline: the colour of the edges.
    """
    for (x, y), color in zip(points.tolist(), _each(colors, len(points)), strict=True):
        box = (x - radius, y - radius, x + radius, y + radius)
        canvas.ellipse(box, fill=color, outline=outline)


def draw_lines(
    canvas: ImageDraw.ImageDraw,
    starts: np.ndarray,
    ends: np.ndarray,
    colors: Color | Iterable[Color],
    width: int = 1,
) -> None:
    """Draw lines from (N, 2) points to (N, 2) others; arguments as of :func:`draw_dots`."""
    for start, end, color in zip(
        starts.tolist(), ends.tolist(), _each(colors, len(starts)), strict=True
    ):
        canvas.line([tuple(start), tuple(end)], fill=color, width=width)


def _each(colors: Color | Iterable[Color], count: int) -> Iterable[Color]:
    if isinstance(colors, tuple):
        return [colors] * count
    return colors


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture, in the format of the path's suffix; the file is whole or unchanged."""
    with replaced(path) as partial:
        picture.save(partial, format=Image.registered_extensions()[path.suffix.lower()])
