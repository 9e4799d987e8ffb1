"""A picture of one pair of photos under several features and matchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from disk_hloc.io.colmap import DATABASE, read_verified
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.store import reading

from .drawing import (
    BACKGROUND,
    BAD_COLOR,
    GOOD_COLOR,
    ZOOM,
    dimmed,
    draw_dots,
    draw_lines,
    read_photo,
    save_picture,
    shrunk,
    side_by_side,
    to_image,
)

PAIR_HEIGHT = 300
MAX_LINES = 150  # In a panel, roughly.
TITLE_HEIGHT = 32


# Title of a row -> features file, matches file, and the model's folder with its database.
Rows = Mapping[str, tuple[Path, Path, Path]]
# Title of a row -> pair -> (K, 2) verified matches.
Verified = Mapping[str, Mapping[Pair, np.ndarray]]


def same_pair(
    image_dir: Path,
    rows: Rows,
    pairs: Sequence[Pair],
    output: Path,
) -> Path:
    """Draw one pair of photos under several features and matchers.

    Matches that verify are green, others red. All have a dot at each end, and one in N has a line,
    with the same N in all rows. Of the pairs in which a row verifies any match, the picture shows
    the one with the median number of verified matches.

    Args:
        image_dir: the photos.
        rows: the rows to draw.
        pairs: those to choose from, all of them matched and verified.
        output: the PNG file to write.

    Returns:
        ``output``.
    """
    verified = read_all_verified(rows)
    order = ranked(verified, pairs)
    panels_of_pair = panels(image_dir, rows, verified, order[len(order) // 2])
    titled = [_titled(panel, title) for title, panel in panels_of_pair]
    columns = 2 if len(titled) > 1 else 1
    width, height = titled[0].size
    size = (columns * width, -(-len(titled) // columns) * height)
    picture = Image.new("RGB", size, BACKGROUND)
    for i, panel in enumerate(titled):
        picture.paste(panel, (i % columns * width, i // columns * height))
    save_picture(picture, output)
    return output


def read_all_verified(rows: Rows) -> dict[str, Mapping[Pair, np.ndarray]]:
    """Read the verified matches of each row."""
    return {title: read_verified(sfm_dir / DATABASE) for title, (_, _, sfm_dir) in rows.items()}


def ranked(verified: Verified, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs in which any match verifies, those with the fewest first; at least one."""
    counts = {
        pair: sum(len(_of_pair(found, pair)) for found in verified.values()) for pair in pairs
    }
    found = sorted((pair for pair in pairs if counts[pair]), key=lambda pair: counts[pair])
    return found or list(pairs[:1])


def panels(
    image_dir: Path, rows: Rows, verified: Verified, pair: Pair
) -> list[tuple[str, Image.Image]]:
    """Draw one pair of photos in each row, with a title that says how many matches verify."""
    photos = [read_photo(image_dir / name) for name in pair]
    drawn = []
    for title, (feature_path, match_path, _) in rows.items():
        with reading(feature_path) as features, reading(match_path) as matches:
            keypoints = [read_keypoints(features, name) for name in pair]
            matched = read_matches(matches, *pair)
        inliers = {tuple(match) for match in _of_pair(verified[title], pair)}
        matched = np.zeros((0, 2), np.int64) if matched is None else matched
        good = np.array([tuple(match) in inliers for match in matched], bool)
        drawn.append((title, keypoints, matched, good))
    every = max(1, *(-(-len(good) // MAX_LINES) for *_, good in drawn))
    shown = "" if every == 1 else f" (1 line in {every})"
    return [
        (
            f"{title}: {good.sum()} of {len(good)} matches verify{shown}",
            photos_with_matches(photos, keypoints, matched, good, every),
        )
        for title, keypoints, matched, good in drawn
    ]


def photos_with_matches(
    photos: Sequence[np.ndarray],
    keypoints: Sequence[np.ndarray],
    matches: np.ndarray,
    good: np.ndarray,
    every: int = 1,
) -> Image.Image:
    """Draw two photos side by side, dimmed, with matches: good ones green, others red.

    Args:
        photos: two (H, W, 3) uint8 RGB.
        keypoints: two (N, 2), x and y in pixels, (0, 0) at the centre of the top-left pixel.
        matches: (K, 2) indices into the keypoints.
        good: (K,) bool.
        every: one in this many of the good and of the others has a line; all have dots.
    """
    scales = [PAIR_HEIGHT * ZOOM / photo.shape[0] for photo in photos]
    panel, lefts = side_by_side(
        [
            to_image(photo).resize((round(photo.shape[1] * scale), PAIR_HEIGHT * ZOOM))
            for photo, scale in zip(photos, scales, strict=True)
        ]
    )
    panel = dimmed(panel)
    canvas = ImageDraw.Draw(panel)
    start, end = ((keypoints[i][matches[:, i]] + 0.5) * scales[i] + [lefts[i], 0] for i in range(2))
    for chosen, color in ((good, GOOD_COLOR), (~good, BAD_COLOR)):
        index = np.flatnonzero(chosen)
        draw_lines(canvas, start[index[::every]], end[index[::every]], color)
        draw_dots(canvas, np.concatenate([start[index], end[index]]), color, radius=2)
    return shrunk(panel)


def _titled(panel: Image.Image, title: str) -> Image.Image:
    """Return a panel under a line of text."""
    framed = np.full((panel.height + TITLE_HEIGHT, panel.width, 3), BACKGROUND, np.uint8)
    framed[TITLE_HEIGHT:] = np.asarray(panel)
    # Not by Pillow, which before 10.1 has letters of one size only.
    baseline = (8, TITLE_HEIGHT - 9)
    cv2.putText(
        framed, title, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (235, 235, 235), 1, cv2.LINE_AA
    )
    return Image.fromarray(framed)


def _of_pair(verified: Mapping[Pair, np.ndarray], pair: Pair) -> np.ndarray:
    """Return the (K, 2) matches of a pair, stored either way around."""
    if pair in verified:
        return verified[pair]
    return verified.get((pair[1], pair[0]), np.zeros((0, 2), np.int64))[:, ::-1]
