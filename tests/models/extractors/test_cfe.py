"""CFE against numbers of its published code, and what differs from it by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.cfe_keypoints import find_cfe_keypoints
from disk_hloc.models.cfe_network import CFENetwork, enlarge, spacing
from disk_hloc.models.disk_network.keypoints import find_keypoints, refine_keypoints
from disk_hloc.models.extractors.cfe import CFE
from support.errors import one_line_error
from support.random_weights import random_image, random_weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as Lightning writes it, of tensors and plain values alone."""
    path = tmp_path_factory.mktemp("cfe") / "best.ckpt"
    with torch.device("meta"):
        like = CFENetwork().state_dict()
    parameters = random_weights(like)
    parameters["feature_encoder.resnet.fc.weight"] = torch.zeros(2, 2)
    torch.save({"state_dict": parameters, "epoch": 27, "hyper_parameters": {}}, path)
    return path


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return random_image(75, 102)


# Of each level: rows and columns, the first of a cell's code, and scores of two cells.
PUBLISHED_LEVELS = (
    ((18, 24), [1.6460, -1.2843, 0.7266], [1.36974, 2.83883]),
    ((18, 24), [1.9935, 0.4915, -6.8887], [1.26777, 0.00497]),
    ((20, 24), [0.2164, 4.8228, -6.3097], [0.03513, 0.07731]),
)


@torch.inference_mode()
def test_features_are_those_of_the_published_code(checkpoint, image) -> None:
    model = CFE({"weights": str(checkpoint), "release": True, "detection_threshold": 1.2})
    for level, (size, codes, scores) in zip(model.net(image), PUBLISHED_LEVELS, strict=True):
        assert level.scores.shape[2:] == size
        of_cell, of_cells = level.descriptors[0, :3, 4, 5], level.scores[0, 0, [0, 4], [0, 5]]
        torch.testing.assert_close(of_cell, torch.tensor(codes), rtol=0, atol=2e-4)
        torch.testing.assert_close(of_cells, torch.tensor(scores), rtol=0, atol=1e-4)
    found = model({"image": image})
    assert len(found["keypoints"][0]) == 138
    best = found["keypoint_scores"][0].topk(3).indices
    expected = torch.tensor([[30.077, 65.032], [92.331, 14.204], [38.420, 54.274]])
    torch.testing.assert_close(found["keypoints"][0][best], expected, rtol=0, atol=1e-2)
    expected = torch.tensor([4.6189, 4.1939, 4.1846])
    torch.testing.assert_close(found["keypoint_scores"][0][best], expected, rtol=0, atol=1e-3)
    expected = torch.tensor(
        [[0.1088, -0.0232, 0.0853], [0.0380, -0.1045, 0.0766], [0.1238, -0.0679, 0.0606]]
    )
    torch.testing.assert_close(found["descriptors"][0][:3, best].T, expected, rtol=0, atol=1e-3)


def paraboloid(x: float, y: float, along_x: float, along_y: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(7.0), torch.arange(8.0), indexing="ij")
    return 5 + along_x * (columns - x) ** 2 + along_y * (rows - y) ** 2


@pytest.mark.parametrize("along", [(-0.2, -0.1), (0.2, 0.1), (0.1, -0.2)])
def test_the_published_keypoints_are_maxima_minima_and_saddles(along) -> None:
    scores = paraboloid(3.3, 2.8, *along)
    xy, values = find_cfe_keypoints(scores, 1.0)
    at = (xy - torch.tensor([3.3, 2.8])).norm(dim=1).argmin()
    torch.testing.assert_close(xy[at], torch.tensor([3.3, 2.8]))
    assert values[at] == scores[3, 3]
    assert len(find_keypoints(scores, 3, 1.0)[0]) == (along[0] < 0 and along[1] < 0)


@settings(max_examples=40, deadline=None)
@given(cells=st.integers(1, 30), factor=st.sampled_from([1, 2, 4]))
def test_cells_of_an_enlarged_map_are_where_its_values_are(cells, factor) -> None:
    small = torch.arange(cells).double().expand(1, 1, 2, cells)
    places = enlarge(small, factor)[0, 0, 0]
    if cells > 1:
        expected = torch.arange(cells * factor).double() * spacing(cells, factor)
        torch.testing.assert_close(places, expected)
    assert spacing(1, 1) == 1


@pytest.mark.parametrize("size", [(64, 96), (75, 102), (33, 40)])
def test_cells_lie_in_the_image(size) -> None:
    """By default; those of the published code may lie outside it."""
    network = CFENetwork(1, depth=18).eval()
    with torch.inference_mode():
        levels = network(torch.rand(1, 3, *size))
    for level, stride in zip(levels, (4, 8, 16), strict=True):
        for axis, side in ((0, size[1]), (1, size[0])):
            cells = level.scores.shape[3 - axis]
            last = level.centre + level.stride[axis] * (cells - 1)
            assert side - 1 - stride < last <= side - 1


@torch.inference_mode()
def test_a_keypoint_is_at_the_peak_near_the_centre_of_its_cell(tmp_path, image) -> None:
    torch.manual_seed(0)
    torch.save({"extractor": CFENetwork(depth=18).state_dict()}, tmp_path / "small.pth")
    model = CFE({"weights": str(tmp_path / "small.pth")})
    found = model({"image": image})
    start = 0
    for level in model.net(image):
        scores = level.scores[0, 0]
        cells, values = find_keypoints(scores, 3, 0.3)
        assert len(cells) > 2
        of_level = slice(start, start + len(cells))
        start += len(cells)
        assert torch.equal(found["keypoint_scores"][0][of_level], values)
        x, y = refine_keypoints(scores, cells).T
        assert (x - cells[:, 0]).abs().max() > 0.1
        expected = torch.stack([level.stride[0] * x, level.stride[1] * y], dim=1)
        torch.testing.assert_close(found["keypoints"][0][of_level], expected)
    assert start == len(found["keypoints"][0])


def test_encoding_before_enlarging_is_exact() -> None:
    encoder = CFENetwork(depth=18).feature_encoder.eval()
    image = random_image(64, 64)
    with torch.inference_mode():
        found, activations = encoder(image), encoder.activations(image)
        enlarged = [enlarge(x, 2**i) for i, x in enumerate(activations)]
        torch.testing.assert_close(found, encoder.encode(enlarged), rtol=1e-4, atol=1e-4)
        decoded = encoder.decode(found)
    assert [x.shape[1] for x in decoded] == [x.shape[1] for x in activations]
    assert all(x.min() >= 0 for x in decoded)


@torch.inference_mode()
def test_bounded_scores_and_levels_of_gray(image) -> None:
    torch.manual_seed(0)
    plain, bounded = CFENetwork(depth=18).eval(), CFENetwork(depth=18, bounded=True).eval()
    bounded.load_state_dict(plain.state_dict())
    for one, other in zip(plain(image), bounded(image), strict=True):
        torch.testing.assert_close(other.scores, one.scores / (1 + one.scores))
    raw = CFENetwork(depth=18, levels_of_gray=True).eval()
    raw.load_state_dict(plain.state_dict())
    expected = raw.feature_encoder(image * 255)
    torch.testing.assert_close([level.descriptors for level in raw(image)], expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (5, 9)])
@torch.inference_mode()
def test_small_and_gray_and_flat_images(tmp_path, size) -> None:
    path = tmp_path / "small.pth"
    torch.save({"extractor": CFENetwork(depth=18).state_dict()}, path)
    for release in (False, True):
        model = CFE({"weights": str(path), "release": release, "max_keypoints": 5})
        for given_image in (torch.rand(1, 1, *size), torch.zeros(1, 3, *size)):
            found = model({"image": given_image})
            assert found["descriptors"][0].shape == (64, len(found["keypoints"][0]))


def test_weights_that_are_missing_or_of_another_network(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DISK_HLOC_WEIGHTS", str(tmp_path))
    with pytest.raises(DiskHlocError) as error:
        CFE()
    assert one_line_error(error, "CFE needs", "no weights", "train", "cfe.ckpt")
    parameters = {"early_attentions.3.weight": torch.zeros(1)}
    torch.save({"state_dict": parameters}, tmp_path / "odd.ckpt")
    with pytest.raises(DiskHlocError, match=r"odd\.ckpt.*another network than CFE"):
        CFE({"weights": str(tmp_path / "odd.ckpt")})
