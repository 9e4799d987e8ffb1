"""Votes on how two photos are turned against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disk_hloc.io.images import read_image
from disk_hloc.models import turn_votes
from disk_hloc.models.turn_votes import clear_turn, describe, votes


@pytest.fixture(scope="module")
def fountain(data: Path) -> list[np.ndarray]:
    folder = data / "fountain_p11" / "images"
    return [read_image(folder / name, grayscale=True) for name in ("0004.jpg", "0005.jpg")]


def rotated(image: np.ndarray, quarters: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, quarters))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("second", range(4))
def test_neighbours_agree_on_their_turn(
    fountain: list[np.ndarray], first: int, second: int
) -> None:
    counted = votes(describe(rotated(fountain[0], first)), describe(rotated(fountain[1], second)))
    # What has to be done to the second beyond what has to be done to the first.
    assert clear_turn(counted) == (first - second) % 4
    assert counted.max() > 3 * turn_votes.MIN_VOTES


def test_photos_of_different_places_do_not_agree(
    fountain: list[np.ndarray], sacre_coeur: Path
) -> None:
    other = describe(read_image(min(sacre_coeur.iterdir()), grayscale=True))
    counted = votes(describe(fountain[0]), other)
    assert clear_turn(counted) is None
    assert counted.max() < turn_votes.MIN_VOTES - 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (200, 300)])
def test_a_photo_without_texture_agrees_with_none(shape: tuple[int, int]) -> None:
    blank = describe(np.full(shape, 90, np.uint8))
    assert len(blank.places) == len(blank.descriptors) == 0
    assert clear_turn(votes(blank, blank)) is None


def test_masked_places_do_not_vote(fountain: list[np.ndarray]) -> None:
    mask = np.zeros(fountain[0].shape, bool)
    mask[:, : mask.shape[1] // 2] = True
    found = describe(fountain[0], mask).places
    assert len(found) > 50
    assert found[:, 0].max() <= 0.51


@pytest.mark.parametrize(
    ("counted", "turn"),
    [([0, 7, 0, 0], None), ([0, 8, 0, 0], 1), ([20, 8, 0, 0], 0), ([20, 11, 0, 0], None)],
)
def test_few_or_divided_votes_decide_nothing(counted: list[int], turn: int | None) -> None:
    assert clear_turn(np.array(counted)) == turn
