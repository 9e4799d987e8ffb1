"""Pictures of a training: heatmaps, keypoints, and matches coloured by their error."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from .data import Batch
from .network import Features
from .validation import Match

KEYPOINT_COLOR = (90, 255, 90)
_ZOOM = 2  # Lines are drawn larger and shrunk, so that they have smooth edges.
_LINES = 200  # At most so many matches of a pair.


def tuple_picture(
    batch: Batch,
    index: int,
    heatmaps: Tensor,
    features: Sequence[Features],
    matches: Sequence[Match],
    threshold: float,
) -> Image.Image:
    """A tuple: in the first row photos with keypoints, below heatmaps, then matches of all pairs.

    Args:
        batch: the tuple's.
        index: of the tuple in it.
        heatmaps: (K, H, W) logits.
        features: of the tuple's K images.
        matches: of its pairs, in the order of ``itertools.combinations``.
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
    # A pair is two photos wide: in rows of as many as fit.
    columns = max(1, width // pairs[0].shape[1])
    for i in range(0, len(pairs), columns):
        rows.append(np.concatenate(pairs[i : i + columns], axis=1))
    framed = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return Image.fromarray(np.concatenate(framed))


def heatmap_picture(heatmap: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the sigmoid of (H, W) logits, from dark to bright."""
    chance = 1 / (1 + np.exp(-np.clip(heatmap, -30, 30)))
    return cv2.applyColorMap((255 * chance).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]


def photo_with_keypoints(photo: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """A copy of a photo, (H, W, 3) uint8, with (N, 2) keypoints."""
    drawn = photo.copy()
    for x, y in xy.astype(int):
        cv2.circle(drawn, (int(x), int(y)), 1, KEYPOINT_COLOR, -1)
    return drawn


def matches_picture(
    photo1: np.ndarray,
    photo2: np.ndarray,
    features1: Features,
    features2: Features,
    match: Match,
    threshold: float,
) -> np.ndarray:
    """Two photos side by side, (H, 2 W, 3) uint8, with lines between matches.

    A line is green without an error, yellow at half the threshold and red from it on. Of many
    matches some are drawn, evenly.
    """
    both = np.concatenate([photo1, photo2], axis=1)
    height, width = both.shape[:2]
    panel = Image.fromarray(both // 2).resize((width * _ZOOM, height * _ZOOM))
    canvas = ImageDraw.Draw(panel)
    index, error = match.indices.cpu().numpy(), match.error.cpu().numpy()
    shown = np.unique(np.linspace(0, len(index) - 1, min(_LINES, len(index))).astype(int))
    start = (features1.xy.cpu().numpy()[index[shown, 0]] + 0.5) * _ZOOM
    stop = (features2.xy.cpu().numpy()[index[shown, 1]] + [photo1.shape[1] + 0.5, 0.5]) * _ZOOM
    for one, other, color in zip(start, stop, error_colors(error[shown], threshold), strict=True):
        canvas.line([tuple(one), tuple(other)], fill=tuple(color.tolist()), width=_ZOOM)
    return np.asarray(panel.resize((width, height), Image.Resampling.LANCZOS))


def error_colors(error: np.ndarray, threshold: float) -> np.ndarray:
    """(K, 3) uint8 of (K,) errors in pixels: from green over yellow to red."""
    share = np.clip(np.nan_to_num(error / threshold, nan=1, posinf=1), 0, 1)
    red, green = np.minimum(1, 2 * share), np.minimum(1, 2 - 2 * share)
    return (255 * np.stack([red, green, np.full_like(share, 0.15)], axis=1)).astype(np.uint8)


def _photo(image: Tensor) -> np.ndarray:
    values = image.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray((255 * values).round().clip(0, 255).astype(np.uint8))
