"""Pictures of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from disk_hloc.io.training.dataset import read_training_set
from disk_hloc.train.data import load
from disk_hloc.train.features import Features
from disk_hloc.train.pictures import error_colors, heatmap_picture, tuple_picture
from disk_hloc.train.validation import Match


def test_errors_go_from_green_to_red() -> None:
    colors = error_colors(np.array([0, 0.75, 1.5, 99, np.nan]), 1.5).astype(int)
    assert colors[0, 1] == 255
    assert colors[0, 0] == 0
    assert colors[1, :2].tolist() == [255, 255]
    assert (colors[2:, :2] == [255, 0]).all()


def test_a_heatmap_is_brighter_where_keypoints_are_likelier() -> None:
    shades = heatmap_picture(np.array([[-40.0, 0.0, 40.0]])).astype(int).sum(axis=2)[0]
    assert shades[0] < shades[1] < shades[2]


def test_matches_are_lines_of_their_colour(training_set: Path) -> None:
    batch = load(read_training_set(training_set), [(0, 0), (1, 1)], (64, 48), "cv2_linear")
    xy = torch.tensor([[5, 10], [5, 40]])
    features = [Features(xy, torch.zeros(2), torch.zeros(2, 4))] * 2
    match = Match(torch.tensor([[0, 0], [1, 1]]), torch.tensor([0.0, 9.0]))
    drawn = np.asarray(
        tuple_picture(batch, 1, torch.zeros(2, 48, 64), features, [match], 1.5)
    ).astype(int)
    assert drawn.shape == (3 * 48, 2 * 64, 3)
    photos, matches = drawn[:48], drawn[96:]
    assert photos[10, 5].tolist() == [90, 255, 90]
    line = slice(20, 60)
    assert (matches[10, line, 1] > matches[10, line, 0] + 60).all()
    assert (matches[40, line, 0] > matches[40, line, 1] + 60).all()
    # Of another tuple, other photos.
    other = np.asarray(tuple_picture(batch, 0, torch.zeros(2, 48, 64), features, [match], 1.5))
    assert not np.array_equal(drawn, other)


def test_images_without_matches_are_drawn_too(training_set: Path) -> None:
    batch = load(read_training_set(training_set), [(0, 0)], (64, 48), "cv2_linear")
    none = Features(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 4))
    match = Match(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0))
    picture = tuple_picture(batch, 0, torch.zeros(2, 48, 64), [none, none], [match], 1.5)
    assert picture.size == (128, 144)
