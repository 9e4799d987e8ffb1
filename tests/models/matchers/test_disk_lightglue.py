"""LightGlue on DISK's features of real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.lightglue import blocks, matcher
from disk_hloc.models.lightglue.network import Network
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue
from disk_hloc.stages.extract import extract_photos


@pytest.fixture(scope="module")
def pair(data: Path) -> dict[str, torch.Tensor]:
    """DISK features of fountain-P11's photos 0002 and 0006, which are far apart."""
    model = DISK({"max_keypoints": 512})
    out = {}
    for i, name in enumerate(("0002.jpg", "0006.jpg")):
        photo = load_photo(data / "fountain_p11" / "images", name, {"resize_max": 640})
        ((features, _),) = extract_photos(model, [photo])
        for key in ("keypoints", "descriptors", "image_size"):
            out[f"{key}{i}"] = torch.from_numpy(features[key])[None].float()
    return out


def epipolar_inliers(data: Path, pair: dict[str, torch.Tensor], matches: np.ndarray) -> int:
    """Matches within 3 px of the epipolar lines of the known poses."""
    poses = read_poses(data / "fountain_p11" / "poses.txt")
    _, _, _, (fx, fy, cx, cy) = read_camera(data / "fountain_p11" / "camera.txt")
    calibration = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    first, second = poses["0002.jpg"], poses["0006.jpg"]
    rotation = second.rotation @ first.rotation.T
    tx, ty, tz = second.translation - rotation @ first.translation
    essential = np.array([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]]) @ rotation
    inverse = np.linalg.inv(calibration)
    fundamental = inverse.T @ essential @ inverse
    index = np.flatnonzero(matches >= 0)
    ones = np.ones((len(index), 1))
    x0 = np.hstack([pair["keypoints0"][0].numpy()[index] + 0.5, ones])
    x1 = np.hstack([pair["keypoints1"][0].numpy()[matches[index]] + 0.5, ones])
    lines = x0 @ fundamental.T
    distance = np.abs((lines * x1).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)
    return int((distance < 3).sum())


@torch.inference_mode()
def test_it_finds_more_true_matches_than_nearest_neighbours(data, pair) -> None:
    ours = DiskLightGlue()(pair)
    mutual = NearestNeighbors()(pair)["matches0"][0].numpy()
    matches = ours["matches0"][0].numpy()
    found = (matches >= 0).sum()
    inliers = epipolar_inliers(data, pair, matches)
    assert found >= 30
    assert inliers / found > 0.85
    assert inliers / found > epipolar_inliers(data, pair, mutual) / (mutual >= 0).sum() + 0.1
    assert ((ours["matching_scores0"][0].numpy() > 0.1) == (matches >= 0)).all()


def kornias(pair: dict[str, torch.Tensor], **conf: float) -> dict[str, torch.Tensor]:
    """Match with kornia's own network."""
    net = DiskLightGlue(conf).net
    return net(
        {
            f"image{i}": {
                "keypoints": pair[f"keypoints{i}"],
                "descriptors": pair[f"descriptors{i}"].transpose(1, 2),
                "image_size": pair[f"image_size{i}"],
            }
            for i in (0, 1)
        }
    )


def require_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Require equal matches, and scores that differ by rounding alone."""
    assert torch.equal(found["matches0"], expected["matches0"])
    scores = found["matching_scores0"], expected["matching_scores0"]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize("depth", [0.95, 0.5, -1])
@pytest.mark.parametrize("width", [0.99, 0.5, -1])
@torch.inference_mode()
def test_in_float32_matches_are_kornias(pair, depth, width) -> None:
    conf = {"depth_confidence": depth, "width_confidence": width}
    expected = kornias(pair, **conf)
    assert (expected["matches0"] >= 0).sum() >= 20
    require_same(DiskLightGlue({**conf, "precision": "float32"})(pair), expected)


def of_two(pair: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A pair, and one of an image with itself, which is certain after fewer layers."""
    return {key: torch.cat([pair[key], pair[f"{key[:-1]}0"]]) for key in pair}


@torch.inference_mode()
def test_a_pair_of_a_batch_is_matched_as_alone(pair) -> None:
    both = of_two(pair)
    model = DiskLightGlue({"precision": "float32"})
    together = model(both)
    for i in (0, 1):
        alone = {key: values[i : i + 1] for key, values in both.items()}
        found = {key: values[i : i + 1] for key, values in together.items()}
        require_same(found, model(alone))


@pytest.fixture
def as_on_a_gpu(monkeypatch) -> DiskLightGlue:
    """A matcher that computes as on a GPU, but on the CPU."""
    model = DiskLightGlue({"precision": "float32"})
    model.network().one_at_a_time = False
    monkeypatch.setattr(blocks.FirstSelfAttention, "forward", blocks.SelfAttention.forward)
    return model


@torch.inference_mode()
def test_pairs_leave_a_batch_as_each_is_certain(pair, as_on_a_gpu, monkeypatch) -> None:
    both = of_two(pair)
    layers = []
    certain = Network._until_certain

    def noted(network, first, second):
        for one in certain(network, first, second):
            layers.append((one[0].tolist(), one[1]))
            yield one

    monkeypatch.setattr(Network, "_until_certain", noted)
    together = as_on_a_gpu(both)
    assert [pairs for pairs, _ in layers] == [[1], [0]]
    assert layers[0][1] < layers[1][1]
    for i in (0, 1):
        alone = {key: values[i : i + 1] for key, values in both.items()}
        found = {key: values[i : i + 1] for key, values in together.items()}
        require_same(found, kornias(alone, width_confidence=-1))


@pytest.mark.parametrize("gpu", [False, True])
@torch.inference_mode()
def test_pairs_of_unequal_numbers_are_matched_as_alone(pair, as_on_a_gpu, gpu) -> None:
    model = as_on_a_gpu if gpu else DiskLightGlue({"precision": "float32"})
    # So that keypoints that are not there would decide when to stop.
    model.network().conf.depth_confidence = 0.7
    counts = [(512, 400), (300, 512), (333, 222)]
    alone = [
        {
            key: values[:, :count] if key.startswith("keypoints") else values[..., :count]
            for key, values in pair.items()
            for count in [two[int(key[-1])]]
        }
        for two in counts
    ]
    batch = {key: values.repeat(3, *[1] * (values.ndim - 1)) for key, values in pair.items()}
    generator = torch.Generator().manual_seed(0)
    for i in (0, 1):
        batch[f"num_keypoints{i}"] = torch.tensor([two[i] for two in counts])
        # What is not there must not matter.
        for row, two in enumerate(counts):
            gone = batch[f"descriptors{i}"][row, :, two[i] :]
            gone.copy_(torch.randn(gone.shape, generator=generator))
    together = model(batch)
    for i, one in enumerate(alone):
        expected, count = model(one), counts[i][0]
        found = {key: values[i : i + 1, :count] for key, values in together.items()}
        assert (expected["matches0"] >= 0).sum() > 10
        require_same(found, expected)
        assert (together["matches0"][i, count:] == -1).all()


@torch.inference_mode()
def test_the_first_block_of_an_image_is_computed_once(pair, monkeypatch) -> None:
    model = DiskLightGlue()
    calls = []
    compute = blocks.SelfAttention.forward

    def counted(block, x, positions):
        if isinstance(block, blocks.FirstSelfAttention):
            calls.append(x.shape)
        return compute(block, x, positions)

    monkeypatch.setattr(blocks.SelfAttention, "forward", counted)
    first = model(pair)
    swapped = {f"{key[:-1]}{1 - int(key[-1])}": value for key, value in pair.items()}
    model(swapped)
    again = model(pair)
    assert len(calls) == 2
    assert torch.equal(first["matches0"], again["matches0"])
    assert torch.equal(first["matching_scores0"], again["matching_scores0"])
    # A keypoint that moved is another image.
    moved = {**pair, "keypoints0": pair["keypoints0"] * 0.99}
    other = model(moved)
    assert len(calls) == 3
    monkeypatch.setattr(blocks, "_KEPT_BYTES", 0)
    fresh = DiskLightGlue()
    assert torch.equal(fresh(moved)["matching_scores0"], other["matching_scores0"])
    assert not fresh.network().self_attention[0]._kept


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@torch.inference_mode()
def test_half_precision_changes_few_matches(pair, precision) -> None:
    ours, theirs = DiskLightGlue({"precision": precision})(pair), kornias(pair)
    assert not torch.equal(ours["matching_scores0"], theirs["matching_scores0"])
    found, expected = ours["matches0"], theirs["matches0"]
    same = (found == expected) & (expected >= 0)
    assert same.sum() >= 0.95 * (expected >= 0).sum()
    assert (found == expected).float().mean() >= 0.98


def test_precision_follows_the_cpu(monkeypatch) -> None:
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(matcher, "has_fast_bfloat16", lambda fast=fast: fast)
        network = DiskLightGlue().network()
        assert network.self_attention[0].project.weight.dtype == dtype
        assert network.project.weight.dtype == torch.float32
    with pytest.raises(DiskHlocError, match="precision"):
        DiskLightGlue({"precision": "float64"})


@torch.inference_mode()
def test_keypoints_just_outside_the_image_are_taken(pair) -> None:
    moved = {**pair, "keypoints0": pair["keypoints0"].clone()}
    moved["keypoints0"][0, 0] = torch.tensor([-0.4, -0.4])
    assert DiskLightGlue()(moved)["matches0"].shape == (1, 512)


@pytest.mark.parametrize("counts", [(0, 0), (0, 4), (4, 0), (1, 4), (1, 1)])
@torch.inference_mode()
def test_few_keypoints_do_not_fail(counts) -> None:
    data = {}
    for i, count in enumerate(counts):
        data[f"keypoints{i}"] = torch.rand(1, count, 2) * 100
        data[f"descriptors{i}"] = torch.nn.functional.normalize(torch.randn(1, 128, count), dim=1)
        data[f"image_size{i}"] = torch.tensor([[100, 100]])
    prediction = DiskLightGlue()(data)
    assert prediction["matches0"].shape == prediction["matching_scores0"].shape == (1, counts[0])
    if min(counts) == 0:
        assert (prediction["matches0"] == -1).all()


def test_disks_own_weights_are_refused() -> None:
    with pytest.raises(DiskHlocError, match="not a checkpoint of LightGlue"):
        DiskLightGlue({"weights": "depth"})
