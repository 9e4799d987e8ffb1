"""Keypoints that another extractor describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from disk_hloc.models.base import Detections, Extractor
from disk_hloc.models.borrowed_keypoints import keypoints_of


class Fixed(Extractor):
    """Two of its four keypoints are at one place."""

    default_conf: ClassVar[dict[str, Any]] = {"max_keypoints": None}
    places = torch.tensor([[5.0, 1.0], [2.5, 7.0], [5.0, 1.0], [2.5, 1.0]])

    def detect(self, image: torch.Tensor) -> Iterator[Detections]:
        for _ in image:
            scores = torch.tensor([1.0, 4.0, 3.0, 2.0])
            yield Detections.of_one(
                scores, lambda chosen: self.places[chosen], lambda chosen: chosen
            )


def test_of_several_keypoints_at_a_place_the_best_is_kept() -> None:
    every = list(keypoints_of(Fixed(), torch.zeros(2, 3, 4, 4)))
    assert len(every) == 2
    for xy, scores in every:
        assert xy.tolist() == [[2.5, 1.0], [2.5, 7.0], [5.0, 1.0]]
        assert scores.tolist() == [2.0, 4.0, 3.0]
