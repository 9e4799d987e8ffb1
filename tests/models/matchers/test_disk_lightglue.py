"""LightGlue on DISK's features of real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.loader import load_photo
from disk_hloc.models import lightglue_cpu
from disk_hloc.models.extractors.disk import DISK
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


def kornias() -> DiskLightGlue:
    """LightGlue with kornia's own blocks."""
    model = DiskLightGlue({"precision": "float32"})
    lightglue_cpu.restore_blocks(model.net)
    return model


@pytest.mark.parametrize("copies", [1, 2])
@torch.inference_mode()
def test_the_arrangement_in_float32_changes_no_match(pair, copies) -> None:
    data = {key: values.expand(copies, *values.shape[1:]) for key, values in pair.items()}
    # Without pruning a batch is computed as one.
    models = DiskLightGlue({"precision": "float32"}), kornias()
    for model in models:
        model.net.conf.width_confidence = -1 if copies > 1 else 0.99
    found, expected = (model(data) for model in models)
    assert (expected["matches0"] >= 0).sum() >= 30 * copies
    assert torch.equal(found["matches0"], expected["matches0"])
    torch.testing.assert_close(
        found["matching_scores0"], expected["matching_scores0"], rtol=0, atol=1e-3
    )


@torch.inference_mode()
def test_the_first_block_of_an_image_is_computed_once(pair, monkeypatch) -> None:
    model = DiskLightGlue()
    calls = []
    compute = lightglue_cpu.SelfAttention.forward

    def counted(block, x, encoding, mask=None):
        if isinstance(block, lightglue_cpu.FirstSelfAttention):
            calls.append(x.shape)
        return compute(block, x, encoding, mask)

    monkeypatch.setattr(lightglue_cpu.SelfAttention, "forward", counted)
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
    monkeypatch.setattr(lightglue_cpu, "_KEPT_BYTES", 0)
    fresh = DiskLightGlue()
    assert torch.equal(fresh(moved)["matching_scores0"], other["matching_scores0"])
    assert not fresh.net.transformers[0].self_attn._kept


@torch.inference_mode()
def test_bfloat16_changes_few_matches(pair) -> None:
    expected = kornias()(pair)["matches0"]
    found = DiskLightGlue({"precision": "bfloat16"})(pair)["matches0"]
    assert not torch.equal(found, expected)
    same = (found == expected) & (expected >= 0)
    assert same.sum() >= 0.95 * (expected >= 0).sum()
    assert (found == expected).float().mean() >= 0.98


def test_precision_follows_the_cpu(monkeypatch) -> None:
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(lightglue_cpu, "has_fast_bfloat16", lambda fast=fast: fast)
        model = DiskLightGlue()
        assert model.net.transformers[0].self_attn.project.weight.dtype == dtype
        # On a GPU kornia's blocks run, in float32.
        assert {one.dtype for one in model.net.transformers[0].self_attn.block.parameters()} == {
            torch.float32
        }
    with pytest.raises(DiskHlocError, match="precision"):
        DiskLightGlue({"precision": "float16"})


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
