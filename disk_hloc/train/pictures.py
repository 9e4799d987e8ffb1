"""Pictures of a training: heatmaps, keypoints, and matches coloured by their errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from disk_hloc.report.drawing import (
    GOOD_COLOR,
    ZOOM,
    dimmed,
    draw_dots,
    draw_lines,
    shrunk,
    side_by_side,
    to_image,
)

from .data import Batch
from .features import Features
from .validation import Match

MAX_LINES = 200  # Between the photos of a pair.


def tuple_picture(
    batch: Batch,
    index: int,
    heatmaps: Tensor,
    features: Sequence[Features],
    matches: Sequence[Match],
    threshold: float,
) -> Image.Image:
    """Draw a tuple: photos with keypoints in the first row, heatmaps, then matches of all pairs.

    Args:
        batch: the batch with the tuple.
        index: of the tuple in the batch.
        heatmaps: (K, H, W) logits.
        features: of the tuple's K images.
        matches: of the tuple's pairs, in the order of ``itertools.combinations``.
        threshold: the error, in pixels, up to which a match counts as right.
    """
    per_tuple = len(features)
    first = index * per_tuple
    photos = [_photo(image) for image in batch.images[first : first + per_tuple]]
    rows = [
        np.concatenate(
            [
                photo_with_keypoints(photo, one.xy.cpu().numpy())
                for photo, one in zip(photos, features, strict=True)
            ],
            axis=1,
        ),
        np.concatenate([heatmap_picture(one.float().cpu().numpy()) for one in heatmaps], axis=1),
    ]
    pairs = [
        matches_picture(photos[i], photos[j], features[i], features[j], match, threshold)
        for (i, j), match in zip(combinations(range(per_tuple), 2), matches, strict=True)
    ]
    width = max(rows[0].shape[1], pairs[0].shape[1])
    # A pair is two photos wide: as many as fit go in a row.
    columns = max(1, width // pairs[0].shape[1])
    for i in range(0, len(pairs), columns):
        rows.append(np.concatenate(pairs[i : i + columns], axis=1))
    framed = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return Image.fromarray(np.concatenate(framed))


def heatmap_picture(heatmap: np.ndarray) -> np.ndarray:
    """Return the sigmoid of (H, W) logits, from dark to bright: (H, W, 3) uint8."""
    chance = 1 / (1 + np.exp(-np.clip(heatmap, -30, 30)))
    return cv2.applyColorMap((255 * chance).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]


def photo_with_keypoints(photo: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Draw (N, 2) keypoints on a copy of a photo, (H, W, 3) uint8."""
    panel = to_image(photo)
    draw_dots(ImageDraw.Draw(panel), xy, GOOD_COLOR, radius=1)
    return np.asarray(panel)


def matches_picture(
    photo1: np.ndarray,
    photo2: np.ndarray,
    features1: Features,
    features2: Features,
    match: Match,
    threshold: float,
) -> np.ndarray:
    """Draw two photos side by side, (H, 2 W, 3) uint8, with lines between matches.

    A line is green without an error, yellow at half the threshold, and red from the threshold on.
    If there are many matches, some of them are drawn, evenly spread.
    """
    both, (_, left) = side_by_side([to_image(photo1), to_image(photo2)])
    panel = dimmed(both, 0.5).resize((both.width * ZOOM, both.height * ZOOM))
    index, error = match.indices.cpu().numpy(), match.error.cpu().numpy()
    shown = np.unique(np.linspace(0, len(index) - 1, min(MAX_LINES, len(index))).astype(int))
    start = (features1.xy.cpu().numpy()[index[shown, 0]] + 0.5) * ZOOM
    end = (features2.xy.cpu().numpy()[index[shown, 1]] + [left + 0.5, 0.5]) * ZOOM
    colors = [tuple(color) for color in error_colors(error[shown], threshold).tolist()]
    draw_lines(ImageDraw.Draw(panel), start, end, colors, width=ZOOM)
    return np.asarray(shrunk(panel))


def error_colors(error: np.ndarray, threshold: float) -> np.ndarray:
    """Return (K, 3) uint8 colours of (K,) errors in pixels: green, yellow, red."""
    share = np.clip(np.nan_to_num(error / threshold, nan=1, posinf=1), 0, 1)
    red, green = np.minimum(1, 2 * share), np.minimum(1, 2 - 2 * share)
    return (255 * np.stack([red, green, np.full_like(share, 0.15)], axis=1)).astype(np.uint8)


def _photo(image: Tensor) -> np.ndarray:
    values = image.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray((255 * values).round().clip(0, 255).astype(np.uint8))
