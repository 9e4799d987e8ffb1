"""The network for training, compared with kornia's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kornia.feature import DISK
from torch import Tensor

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.disk_network.keypoints import sample_keypoints
from disk_hloc.models.extractors.disk import DISK as Extractor
from disk_hloc.train.network import Network
from disk_hloc.train.networks import require_divisible


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def first_of_each_cell(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """A deterministic detector: keypoints at borders, corners and in between."""
    y, x = torch.meshgrid(
        torch.arange(0, heatmap.shape[0], 47), torch.arange(0, heatmap.shape[1], 7), indexing="ij"
    )
    xy = torch.stack([x.flatten(), y.flatten()], dim=1)
    return xy, heatmap[xy[:, 1], xy[:, 0]]


def kornias(network: Network) -> DISK:
    dense = DISK()
    dense.load_state_dict(network.state_dict())
    return dense


def test_features_equal_kornias(images: Tensor) -> None:
    torch.manual_seed(0)
    network = Network()
    heatmaps, descriptors = kornias(network).heatmap_and_dense_descriptors(images)
    for i, found in enumerate(network(images, first_of_each_cell)):
        x, y = found.xy.T
        expected = torch.nn.functional.normalize(descriptors[i][:, y, x].T, dim=1)
        torch.testing.assert_close(found.score, heatmaps[i, 0, y, x], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.descriptors, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_equal_kornias(images: Tensor, recompute: bool) -> None:
    torch.manual_seed(0)
    network = Network(recompute=recompute)
    dense = kornias(network)
    weights = torch.randn(20, 128, generator=torch.Generator().manual_seed(1))
    for model in (network, dense):
        value = torch.zeros(())
        if model is network:
            for found in model(images, first_of_each_cell):
                value = value + found.score.sum() + (found.descriptors * weights).sum()
        else:
            heatmaps, descriptors = dense.heatmap_and_dense_descriptors(images)
            for heatmap, one in zip(heatmaps, descriptors, strict=True):
                xy, score = first_of_each_cell(heatmap[0])
                described = torch.nn.functional.normalize(one[:, xy[:, 1], xy[:, 0]].T, dim=1)
                value = value + score.sum() + (described * weights).sum()
        value.backward()
    for (name, mine), theirs in zip(network.named_parameters(), dense.parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        # The gradient of a bias before a norm is zero up to rounding.
        torch.testing.assert_close(
            mine.grad, theirs.grad, rtol=0, atol=1e-4 * scale + 1e-4, msg=lambda m, n=name: n + m
        )


def test_parameters_are_those_of_the_released_weights() -> None:
    network = Network(weights="depth")
    assert set(network.state_dict()) == set(DISK().state_dict())
    assert not torch.equal(
        network.unet.path_down[0][1][3].weight, Network().unet.path_down[0][1][3].weight
    )


def test_the_extractor_agrees_with_the_trained_network(images: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = Network()
    path = tmp_path / "save-0.pth"
    torch.save({"disk": network.state_dict()}, path)
    extractor = Extractor({"weights": str(path), "subpixel": False, "detection_threshold": -99})
    found = extractor({"image": images[:1]})
    xy = found["keypoints"][0].long()
    with torch.no_grad():
        gated = network.gated(images[:1])
        expected = network.describe(gated[0], xy)
        scores = network.heatmap(gated)[0, xy[:, 1], xy[:, 0]]
    assert len(xy) > 10
    torch.testing.assert_close(found["descriptors"][0].T, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found["keypoint_scores"][0], scores, rtol=1e-3, atol=1e-4)


def test_double_precision_stays_double(images: Tensor) -> None:
    network = Network().double()
    found = network(images.double(), sample_keypoints)[0]
    assert found.score.dtype == found.descriptors.dtype == torch.float64


def test_an_image_without_keypoints_has_gradients(images: Tensor) -> None:
    network = Network()

    def none(heatmap: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(0, 2, dtype=torch.int64), heatmap.flatten()[:0]

    found = network(images, none)[0]
    (found.score.sum() + found.descriptors.sum()).backward()
    assert found.descriptors.shape == (0, 128)
    assert all(one.grad is not None for one in network.parameters())


def test_weights_of_another_network_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"disk": Network(desc_dim=16).state_dict()}, path)
    with pytest.raises(DiskHlocError, match="128 channels"):
        Network(weights=path)
    Network(desc_dim=16, weights=path)


@pytest.mark.parametrize(
    ("height", "width", "cell"), [(40, 64, 8), (64, 56, 8), (16, 64, 8), (64, 64, 7)]
)
def test_sizes_that_cannot_be_halved_or_tiled_are_errors(
    height: int, width: int, cell: int
) -> None:
    with pytest.raises(DiskHlocError):
        require_divisible(height, width, cell, Network.stride)
    require_divisible(64, 96, 8, Network.stride)
