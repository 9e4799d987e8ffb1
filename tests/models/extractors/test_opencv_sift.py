"""RootSIFT on patterns whose keypoints are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from disk_hloc.models.extractors.opencv_sift import SIFT


def blobs(centers, size=(120, 160), sigma=4.0) -> torch.Tensor:
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.full(size, 0.1)
    for i, (cx, cy) in enumerate(centers):
        image += (0.5 + 0.1 * i) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    return torch.from_numpy(image.astype(np.float32))[None, None]


CENTERS = [(40.3, 30.6), (110.0, 80.0), (40.75, 90.25)]


def test_keypoints_lie_at_the_centres_of_blobs() -> None:
    """Pixel centres are integers: no quarter of a pixel is added, nor half a one."""
    found = SIFT()({"image": blobs(CENTERS)})["keypoints"][0].numpy()
    for center in CENTERS:
        assert np.linalg.norm(found - center, axis=1).min() < 0.06


def test_descriptors_are_of_unit_length_and_the_largest_are_kept() -> None:
    image = blobs(CENTERS)
    every = SIFT()({"image": image})
    best = SIFT({"max_keypoints": 2})({"image": image.expand(-1, 3, -1, -1)})
    assert best["descriptors"][0].shape == (128, 2)
    norms = every["descriptors"][0].norm(dim=0)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    top = every["keypoint_scores"][0].sort(descending=True).values[:2]
    torch.testing.assert_close(best["keypoint_scores"][0], top, rtol=0.02, atol=0)


def test_the_score_is_the_scale_of_a_blob() -> None:
    """The difference of two Gaussians is greatest where the blob's sigma is their mean's."""
    for sigma in (3.0, 6.0):
        found = SIFT()({"image": blobs([(80.0, 60.0)], sigma=sigma)})
        at = (found["keypoints"][0] - torch.tensor([80.0, 60.0])).norm(dim=1).argmin()
        # OpenCV's scale is that of the finer one; the other's is greater by a factor 2**(1/3).
        assert found["keypoint_scores"][0][at] == pytest.approx(sigma * 2 ** (-1 / 6), rel=0.12)


def test_root_sift_is_the_square_root_of_shares() -> None:
    image = blobs(CENTERS)
    plain = SIFT({"root": False})({"image": image})["descriptors"][0]
    rooted = SIFT()({"image": image})["descriptors"][0]
    torch.testing.assert_close(rooted**2, plain / plain.sum(dim=0), rtol=1e-4, atol=1e-6)


def test_masked_keypoints_leave_the_budget_to_others() -> None:
    got = SIFT({"max_keypoints": 1})({"image": blobs(CENTERS), "keep": [lambda xy: xy[:, 0] < 60]})
    assert got["keypoints"][0][0, 0] < 60


def test_an_image_without_keypoints() -> None:
    got = SIFT()({"image": torch.zeros(1, 1, 64, 64)})
    assert got["keypoints"][0].shape == (0, 2)
    assert got["descriptors"][0].shape == (128, 0)
