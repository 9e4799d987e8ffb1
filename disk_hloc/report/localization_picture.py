"""A picture of a localized photo: beside a photo of the map, and in the map, seen from above."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from disk_hloc.geometry import Pose
from disk_hloc.io.map_index import MapIndex
from disk_hloc.io.turns import turned, turned_back

from .drawing import (
    BACKGROUND,
    ZOOM,
    Color,
    dimmed,
    draw_dots,
    draw_lines,
    save_picture,
    shrunk,
    side_by_side,
    to_image,
)

WIDTH = 1280
MAP_HEIGHT = 460
MAX_PHOTO_HEIGHT = 480
LINE_HEIGHT = 26
# Of the lines between inliers; all have dots.
MAX_LINES = 120

PHOTO_COLOR: Color = (70, 220, 255)
MAP_COLOR: Color = (150, 158, 176)
RETRIEVED_COLOR: Color = (255, 170, 60)
INLIER_COLOR: Color = (90, 255, 120)
OUTLIER_COLOR: Color = (210, 70, 70)
TEXT_COLOR: Color = (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_SCALE = 0.48
# The view from above holds all cameras, and the points but for the few that are far away.
_PERCENTILES = (2.0, 98.0)
_MARGIN_PX = 46
_GAP_PX = 6  # between two photos
# What is up in a photo that is to be turned by 0 to 3 quarters, in the frame of its camera.
_UPWARD = np.array([[0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0]], float)


@dataclass(frozen=True)
class Panel:
    """A photo to draw, as it is stored, and its keypoints.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        size: the width and height in pixels that the keypoints are of; the photo may be a smaller
            version.
        turn: by how many quarters, counter-clockwise, it is drawn turned.
        keypoints: (N, 2) x and y in pixels, (0, 0) at the centre of the top-left pixel.
    """

    photo: np.ndarray
    size: tuple[int, int]
    turn: int
    keypoints: np.ndarray


@dataclass(frozen=True)
class InMap:
    """A photo in a map.

    Attributes:
        index: of the map.
        pose: of the photo, cam_from_world; None if it has none.
        retrieved: names of the photos of the map that were matched with it.
        seen: (N, 3) points that it sees.
        metric: whether the map is in metres, and x is east, y north and z up.
    """

    index: MapIndex
    pose: Pose | None
    retrieved: Collection[str]
    seen: np.ndarray
    metric: bool


def draw(
    output: Path,
    caption: Sequence[str],
    photo: Panel,
    retrieved: Panel | None,
    inliers: np.ndarray,
    in_map: InMap,
) -> Path:
    """Draw a photo beside a photo of the map with their matches, and the map from above.

    Args:
        output: the PNG file to write.
        caption: lines of text.
        photo: whose place was asked.
        retrieved: a photo of the map with the keypoints that match the photo's, in their order.
        inliers: (N,) bool, of these matches: whether they agree with the pose.
        in_map: where the photo is.

    Returns:
        ``output``.
    """
    rows = [_text(caption), _photos(photo, retrieved, inliers), from_above(in_map)]
    picture = Image.new("RGB", (WIDTH, sum(row.height for row in rows)), BACKGROUND)
    top = 0
    for row in rows:
        picture.paste(row, ((WIDTH - row.width) // 2, top))
        top += row.height
    output.parent.mkdir(parents=True, exist_ok=True)
    save_picture(picture, output)
    return output


def _photos(photo: Panel, retrieved: Panel | None, inliers: np.ndarray) -> Image.Image:
    """Draw one photo or two in a row, dimmed, with lines between the keypoints of inliers."""
    panels = [panel for panel in (photo, retrieved) if panel is not None]
    upright = [turned(panel.photo.transpose(2, 0, 1), panel.turn) for panel in panels]
    # Of the height that fills the width, unless they are high.
    shapes = [image.shape[2] / image.shape[1] for image in upright]
    free = WIDTH - _GAP_PX * (len(shapes) - 1)
    height = max(1, min(MAX_PHOTO_HEIGHT, int(free / sum(shapes)))) * ZOOM
    widths = [max(1, round(height * shape)) for shape in shapes]
    images = [
        dimmed(to_image(image.transpose(1, 2, 0)).resize((width, height), Image.Resampling.LANCZOS))
        for image, width in zip(upright, widths, strict=True)
    ]
    gap = Image.new("RGB", (_GAP_PX * ZOOM, height), BACKGROUND)
    parts = [part for image in images for part in (image, gap)][:-1]
    row, lefts = side_by_side(parts, BACKGROUND)
    lefts = lefts[::2]
    if retrieved is not None:
        ends = [
            _in_panel(panel, width, height) + np.array([left, 0])
            for panel, width, left in zip(panels, widths, lefts, strict=True)
        ]
        _matches(row, ends[0], ends[1], inliers)
    return shrunk(row)


def _in_panel(panel: Panel, width: int, height: int) -> np.ndarray:
    """Return where the keypoints of a photo are in its drawing, in pixels."""
    size = panel.size if panel.turn % 2 == 0 else panel.size[::-1]
    # Turning back by the other quarters turns.
    upright = turned_back(panel.keypoints.astype(np.float64), -panel.turn, size)
    return (upright + 0.5) * [width / size[0], height / size[1]] - 0.5


def _matches(row: Image.Image, starts: np.ndarray, ends: np.ndarray, inliers: np.ndarray) -> None:
    # The outliers are faint: half of what was there shines through.
    faint = row.copy()
    canvas = ImageDraw.Draw(faint)
    draw_dots(canvas, np.concatenate([starts[~inliers], ends[~inliers]]), OUTLIER_COLOR, radius=1.5)
    row.paste(Image.blend(row, faint, 0.5))
    chosen = np.flatnonzero(inliers)
    lines = chosen[:: max(1, -(-len(chosen) // MAX_LINES))]
    with_lines = row.copy()
    draw_lines(ImageDraw.Draw(with_lines), starts[lines], ends[lines], INLIER_COLOR, width=ZOOM)
    row.paste(Image.blend(row, with_lines, 0.55))
    dots = np.concatenate([starts[chosen], ends[chosen]])
    draw_dots(ImageDraw.Draw(row), dots, INLIER_COLOR, radius=2.5)


def from_above(in_map: InMap) -> Image.Image:
    """Draw the points of a map, its cameras and the photo's, seen along the direction of up.

    North is up where the map is metric; elsewhere what its cameras look at.
    """
    index = in_map.index
    poses = [index.pose(i) for i in range(len(index.names))]
    axes = _axes(poses, index.turns, in_map.metric)
    cameras = [in_map.pose] if in_map.pose is not None else []
    centers = np.array([pose.center for pose in [*poses, *cameras]])
    size = np.array([WIDTH, MAP_HEIGHT]) * ZOOM
    flat = index.xyz @ axes[:2].T
    if not len(flat):
        flat = centers @ axes[:2].T
    low, high = np.percentile(flat, _PERCENTILES, axis=0)
    low = np.minimum(low, (centers @ axes[:2].T).min(axis=0))
    high = np.maximum(high, (centers @ axes[:2].T).max(axis=0))
    extent = np.maximum(high - low, 1e-9)
    zoom = float(((size - 2 * _MARGIN_PX * ZOOM) / extent).min())

    def project(points: np.ndarray) -> np.ndarray:
        away = (points @ axes[:2].T - (low + high) / 2) * zoom
        return away * [1, -1] + size / 2

    panel = Image.new("RGB", tuple(size), BACKGROUND)
    canvas = ImageDraw.Draw(panel)
    # The low ones first, so that what is above covers them.
    order = np.argsort(index.xyz @ axes[2], kind="stable")
    # Brighter than they are, to stand out from a dark background.
    bright = (70 + 0.725 * index.colors[order]).astype(int).tolist()
    colors = [(r, g, b) for r, g, b in bright]
    draw_dots(canvas, project(index.xyz[order]), colors, radius=1.6)
    if in_map.pose is not None:
        draw_dots(canvas, project(in_map.seen), INLIER_COLOR, radius=1.8)
    span = 0.045 * float(np.linalg.norm(size)) / zoom
    shown = sorted(zip(index.names, poses, strict=True), key=lambda one: one[0] in in_map.retrieved)
    for name, pose in shown:
        color = RETRIEVED_COLOR if name in in_map.retrieved else MAP_COLOR
        _frustum(panel, project, pose, 0.6 * span, color, filled=False)
    for pose in cameras:
        _frustum(panel, project, pose, span, PHOTO_COLOR, filled=True)
    picture = shrunk(panel)
    _legend(picture, in_map, zoom / ZOOM)
    return picture


def _axes(poses: Sequence[Pose], turns: np.ndarray, metric: bool) -> np.ndarray:
    """Return what is right, forward and up in the view from above: (3, 3), a row each."""
    if metric:
        return np.eye(3)
    up = np.sum(
        [_UPWARD[turn] @ pose.rotation for pose, turn in zip(poses, turns, strict=True)], axis=0
    )
    forward = np.sum([pose.rotation[2] for pose in poses], axis=0)
    # Where cameras look in all directions, any will do.
    for direction in (up, *np.eye(3)):
        if np.linalg.norm(direction) > 1e-6:
            up = direction / np.linalg.norm(direction)
            break
    for direction in (forward, *np.eye(3)):
        level = direction - (direction @ up) * up
        if np.linalg.norm(level) > 1e-6:
            forward = level / np.linalg.norm(level)
            break
    return np.stack([np.cross(forward, up), forward, up])


def _frustum(
    panel: Image.Image,
    project: Callable[[np.ndarray], np.ndarray],
    pose: Pose,
    span: float,
    color: Color,
    filled: bool,
) -> None:
    """Draw the pyramid that a camera sees."""
    corners = span * np.array([[-0.6, -0.4, 1], [0.6, -0.4, 1], [0.6, 0.4, 1], [-0.6, 0.4, 1]])
    ends = project(np.vstack([pose.center, corners @ pose.rotation + pose.center]))
    apex, *outline = [tuple(point) for point in ends.tolist()]
    if filled:
        tinted = panel.copy()
        hull = cv2.convexHull(ends.astype(np.float32))[:, 0]
        ImageDraw.Draw(tinted).polygon([tuple(point) for point in hull.tolist()], fill=color)
        panel.paste(Image.blend(panel, tinted, 0.35))
    canvas = ImageDraw.Draw(panel)
    canvas.line([*outline, outline[0]], fill=color, width=ZOOM)
    for corner in outline:
        canvas.line([apex, corner], fill=color, width=ZOOM)
    draw_dots(canvas, ends[:1], color, radius=4 if filled else 3)


def _legend(picture: Image.Image, in_map: InMap, px_per_unit: float) -> None:
    entries = [("photos of the map", MAP_COLOR)]
    if in_map.pose is not None:
        entries += [
            ("matched with this photo", RETRIEVED_COLOR),
            ("this photo", PHOTO_COLOR),
            ("points that it sees", INLIER_COLOR),
        ]
    canvas = ImageDraw.Draw(picture)
    lines = [text for text, _ in entries]
    widest = max(_text_width(text) for text in lines)
    box = (10, 10, 10 + widest + 44, 18 + LINE_HEIGHT * len(lines))
    canvas.rectangle(box, fill=(28, 31, 40), outline=(62, 68, 84))
    for i, (_, color) in enumerate(entries):
        y = 14 + LINE_HEIGHT * (i + 0.5)
        draw_dots(canvas, np.array([[26.0, y]]), color, radius=5)
    length = _nice(0.2 * picture.width / px_per_unit)
    unit = "m" if in_map.metric else "units of the map"
    scale = f"{length:g} {unit}"
    right, bottom = picture.width - 20, picture.height - 18
    left = right - length * px_per_unit
    ends = np.array([[left, bottom], [left, bottom - 5], [right, bottom - 5]])
    draw_lines(canvas, ends, np.array([[right, bottom], [left, bottom + 5], [right, bottom + 5]]),
               TEXT_COLOR, width=2)  # fmt: skip
    texts = [(line, (42, round(19 + LINE_HEIGHT * (i + 0.5)))) for i, line in enumerate(lines)]
    texts.append((scale, (round(right - _text_width(scale)), bottom - 12)))
    if in_map.metric:
        texts.append(("north is up", (right - _text_width("north is up"), 24)))
    _write(picture, texts)


def _nice(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is not longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))


def _text(lines: Sequence[str]) -> Image.Image:
    panel = Image.new("RGB", (WIDTH, LINE_HEIGHT * len(lines) + 12), BACKGROUND)
    _write(panel, [(line, (10, 24 + LINE_HEIGHT * i)) for i, line in enumerate(lines)])
    return panel


def _text_width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def _write(picture: Image.Image, texts: Sequence[tuple[str, tuple[int, int]]]) -> None:
    """Write texts at the left ends of their baselines; OpenCV's letters are ASCII's."""
    pixels = np.array(picture)
    for text, place in texts:
        plain = text.encode("ascii", "replace").decode()
        cv2.putText(pixels, plain, place, _FONT, _FONT_SCALE, TEXT_COLOR, 1, cv2.LINE_AA)
    picture.paste(Image.fromarray(pixels))
