"""XFeat against kornia's, and its keypoints in pixels of the image."""

from __future__ import annotations

from pathlib import Path

import kornia.feature
import pytest
import torch
import torch.nn.functional as F

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.kornia_xfeat import XFeat
from disk_hloc.weights import load_network


@pytest.fixture(scope="module")
def reference() -> kornia.feature.XFeat:
    model = kornia.feature.XFeat(top_k=500)
    model.net.load_state_dict(load_network("xfeat", "XFeat", "keypoint_head.3.weight"))
    return model.eval()


@pytest.fixture(scope="module")
def photo(data: Path) -> torch.Tensor:
    """640 x 427: the network takes 640 x 416."""
    found = load_photo(data / "fountain_p11" / "images", "0004.jpg", {"resize_max": 640})
    return torch.from_numpy(found.image)[None]


@torch.inference_mode()
def test_features_are_kornias(reference, photo) -> None:
    """In any order; kornia scales keypoints back by the corners of pixels."""
    images = torch.cat([photo, photo.flip(3)])
    found = XFeat({"max_keypoints": 500})({"image": images})
    for i, expected in enumerate(reference.detectAndCompute(images)):
        assert found["keypoints"][i].shape == (500, 2)
        scale = torch.tensor([1, photo.shape[2] / 416])
        places = (expected["keypoints"] / scale + 0.5) * scale - 0.5
        distance, at = torch.cdist(found["keypoints"][i].double(), places.double()).min(dim=1)
        assert distance.max() < 1e-3
        assert len(at.unique()) == 500
        torch.testing.assert_close(found["keypoint_scores"][i], expected["scores"][at])
        torch.testing.assert_close(found["descriptors"][i].T, expected["descriptors"][at])


@torch.inference_mode()
def test_keypoints_are_in_pixels_of_the_image_however_it_is_resized(photo) -> None:
    """An image that the network sees at the size of another has keypoints at the same places."""
    small = photo[..., :192, :256]
    enlarged = F.interpolate(small, (223, 287), mode="bilinear", align_corners=False)
    plain, resized = (XFeat()({"image": image})["keypoints"][0] for image in (small, enlarged))
    moved = (resized + 0.5) * torch.tensor([256 / 287, 192 / 223]) - 0.5
    # They are pixels of the network's input, which is the small image, slightly blurred.
    torch.testing.assert_close(moved, moved.round(), rtol=0, atol=1e-3)
    places = [{tuple(xy) for xy in found.round().tolist()} for found in (plain, moved)]
    same = places[0] & places[1]
    assert len(same) > 0.6 * len(plain) > 60
    assert (resized >= 0).all()


@torch.inference_mode()
def test_keypoints_move_with_the_image(photo) -> None:
    """By whole cells and strides the network gives the same, but for the changed statistics."""
    shifted = XFeat({"max_keypoints": 300})({"image": photo[..., :384, 64:]})["keypoints"][0]
    whole = XFeat()({"image": photo[..., :384, :]})["keypoints"][0]
    distance = torch.cdist(shifted + torch.tensor([64.0, 0]), whole).min(dim=1).values
    assert (distance < 1e-3).float().mean() > 0.9


@torch.inference_mode()
def test_masked_keypoints_leave_the_budget_to_others(photo) -> None:
    middle = photo.shape[-1] / 2
    got = XFeat({"max_keypoints": 100})({"image": photo, "keep": [lambda xy: xy[:, 0] < middle]})
    assert len(got["keypoints"][0]) == 100
    assert got["keypoints"][0][:, 0].max() < middle


@pytest.mark.parametrize("size", [(1, 1), (40, 9), (32, 32)])
@torch.inference_mode()
def test_small_and_gray_and_flat_images(size) -> None:
    torch.manual_seed(0)
    for image in (torch.rand(1, 1, *size), torch.zeros(1, 3, *size)):
        got = XFeat({"max_keypoints": 20})({"image": image})
        assert got["descriptors"][0].shape == (64, len(got["keypoints"][0]))
        norms = got["descriptors"][0].norm(dim=0)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_other_weights_are_refused() -> None:
    with pytest.raises(DiskHlocError, match="not a checkpoint of XFeat"):
        XFeat({"weights": "depth"})
