"""LighterGlue on XFeat's features of a real photo and its crop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.kornia_xfeat import XFeat
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.matchers.xfeat_lighterglue import XFeatLighterGlue

SHIFT = torch.tensor([100.0, 40.0])


@torch.inference_mode()
def test_more_right_matches_than_nearest_neighbours(data: Path) -> None:
    photo = load_photo(data / "fountain_p11" / "images", "0004.jpg", {"resize_max": 640})
    whole = torch.from_numpy(photo.image)[None]
    pair = {}
    for i, image in enumerate((whole, whole[..., 40:, 100:].pow(1.5))):
        found = XFeat({"max_keypoints": 400})({"image": image})
        pair |= {f"{key}{i}": values[0][None] for key, values in found.items()}
        pair[f"image_size{i}"] = torch.tensor([image.shape[:1:-1]])
    right = []
    for matcher in (XFeatLighterGlue(), NearestNeighbors()):
        matches = matcher(pair)["matches0"][0]
        index = torch.nonzero(matches >= 0)[:, 0]
        moved = pair["keypoints0"][0][index] - SHIFT
        error = (moved - pair["keypoints1"][0][matches[index]]).norm(dim=1)
        right.append(((error < 3).sum().item(), (error < 3).float().mean().item()))
    assert right[0][0] > 100
    assert right[0][1] > 0.9
    assert right[0][1] > right[1][1] + 0.2


def test_other_weights_are_refused() -> None:
    with pytest.raises(DiskHlocError, match="not a checkpoint of LightGlue"):
        XFeatLighterGlue({"weights": "disk_lightglue"})
