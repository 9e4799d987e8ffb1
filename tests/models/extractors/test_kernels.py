"""The kernels of the GPU, by Triton's interpreter, against the network's own code for the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from disk_hloc.models import triton_support
from disk_hloc.models.disk_network.keypoints import find_keypoints, refine_keypoints
from disk_hloc.models.disk_network.unet import Gated, UNet, _doubled_moments, _moments
from disk_hloc.weights import load_disk

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("tests/test_cuda.py runs the kernels themselves", allow_module_level=True)

from disk_hloc.models.disk_network import fused, kernels
from disk_hloc.models.extractors.disk import DISK


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def expected(mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = (variance + 1e-5).rsqrt()
    return scale, -mean * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("size", [(2, 2), (16, 48), (50, 34)])
def test_halving(dtype, channels, size) -> None:
    height, width = size
    full = (random(2, height, width, channels) * 3 + 100).to(dtype)
    pooled, sums, pooled_sums = kernels.halve(full)
    reference = torch.nn.functional.avg_pool2d(full.float().permute(0, 3, 1, 2), 2)
    torch.testing.assert_close(pooled, reference.permute(0, 2, 3, 1).to(dtype))
    for values, of in ((full, sums), (pooled, pooled_sums)):
        found = kernels.normalisation(of, None, 1e-5)
        if height * width > 4:
            torch.testing.assert_close(found, expected(*_moments(values)), rtol=1e-4, atol=1e-3)
        assert torch.isfinite(torch.stack(found)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2), (13, 37), (96, 8)])
def test_moments_of_a_doubled_map(size) -> None:
    height, width = size
    smaller = random(2, height, width, 64) * 2 - 5
    sums = kernels.doubled_sums(smaller)
    found = kernels.normalisation(sums, None, 1e-5)
    torch.testing.assert_close(found, expected(*_doubled_moments(smaller)), rtol=1e-4, atol=1e-3)
    plain = random(2, 2 * height, 2 * width, 16) + 3
    _, of_plain, _ = kernels.halve(plain)
    scale, shift = kernels.normalisation(sums, of_plain, 1e-5)
    torch.testing.assert_close((scale[:, :64], shift[:, :64]), found)
    both = scale[:, 64:], shift[:, 64:]
    torch.testing.assert_close(both, expected(*_moments(plain)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("small_channels", [0, 64])
@pytest.mark.parametrize(("channels", "size"), [(16, (32, 48)), (64, (4, 6)), (32, (6, 250))])
def test_gating(small_channels, channels, size) -> None:
    height, width = size
    plain = random(2, height, width, channels)
    smaller = random(2, height // 2, width // 2, small_channels) if small_channels else None
    slope = random(small_channels + channels, seed=3).abs()
    gated = Gated.of(slope, plain, smaller)
    found = kernels.gate(plain, smaller, gated.scale, gated.shift, slope)
    torch.testing.assert_close(found, gated.rows(0, height), rtol=1e-4, atol=1e-4)
    half = kernels.gate(
        plain.half(), None if smaller is None else smaller.half(), gated.scale, gated.shift, slope
    )
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), found, rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def last() -> tuple[UNet, Gated]:
    """The network, and random maps before its last convolution."""
    unet = UNet(load_disk("depth"))
    return unet, Gated.of(unet.slope8, random(2, 48, 80, 16), random(2, 24, 40, 64, seed=1))


def test_the_heatmap(last) -> None:
    unet, gated = last
    found = kernels.convolve_to_one(
        gated.plain, gated.smaller, gated.scale, gated.shift, gated.slope,
        unet.taps, unet.bias[128:],
    )  # fmt: skip
    torch.testing.assert_close(found, unet.heatmap(gated), rtol=1e-4, atol=1e-4)
    half = kernels.convolve_to_one(
        gated.plain.half(), gated.smaller.half(), gated.scale, gated.shift, gated.slope,
        unet.taps, unet.bias[128:],
    )  # fmt: skip
    torch.testing.assert_close(half, found, rtol=1e-2, atol=1e-2)


def places_of(image: int, xy: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.full((len(xy), 1), image), xy.flip(1)], dim=1).contiguous()


def test_patches(last) -> None:
    _, gated = last
    y, x = torch.meshgrid(torch.arange(0, 48, 5), torch.arange(0, 80, 7), indexing="ij")
    corners = torch.tensor([[79, 47], [79, 0], [0, 47], [1, 46], [78, 1]])
    xy = torch.cat([torch.stack([x.flatten(), y.flatten()], dim=1), corners])
    maps = gated.plain, gated.smaller, gated.scale, gated.shift, gated.slope
    found = kernels.patches(*maps, places_of(1, xy))
    torch.testing.assert_close(found, gated[1].patches(xy).flatten(1), rtol=1e-4, atol=1e-4)
    assert kernels.patches(*maps, places_of(1, xy)[:0]).shape == (0, 2000)


@pytest.mark.parametrize("window_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(3, 3), (40, 30), (5, 70)])
def test_maxima(window_size, size) -> None:
    # Of few values, so that there are ties.
    heatmap = (random(2, *size) * 4).round()
    found = kernels.strict_maxima(heatmap, window_size, 0.5)
    for one, marked in zip(heatmap, found, strict=True):
        xy, _ = find_keypoints(one, window_size, 0.5)
        assert marked.nonzero().flip(1).tolist() == xy.tolist()


def test_positions_between_pixels() -> None:
    heatmap = random(40, 50)
    heatmap[:5, :5] = 0  # flat
    y, x = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    xy = torch.stack([x.flatten(), y.flatten()], dim=1)
    both = torch.stack([random(40, 50, seed=1), heatmap])
    found = kernels.refine(both, places_of(1, xy))
    torch.testing.assert_close(found, refine_keypoints(heatmap, xy), rtol=1e-4, atol=1e-3)
    assert kernels.refine(both, places_of(1, xy)[:0]).shape == (0, 2)


@torch.inference_mode()
def test_the_whole_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two images whose sides are no multiples of the network's stride."""
    model = DISK({"max_keypoints": 60})
    image = torch.rand(2, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    expected = model({"image": image})
    pixels = expected["keypoints"][0].round().long()
    described = model.describe(image[:1], pixels)
    monkeypatch.setattr(triton_support, "supports", lambda device: True)
    monkeypatch.setattr(fused, "_DESCRIBED_AT_ONCE", 64)
    found = model({"image": image})
    for key, values in expected.items():
        for one, other in zip(found[key], values, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.describe(image[:1], pixels), described, rtol=1e-3, atol=1e-3)
    half = DISK({"max_keypoints": 60, "precision": "float16"})({"image": image})
    assert half["descriptors"][0].dtype == torch.float32
    assert len(half["keypoints"][1]) == 60


def test_kernels_compile_for_gpus() -> None:
    """Not interpreted, so in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "support.compile_kernels", "fp16", "80"],
        env={**environment, "PYTHONPATH": str(tests)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sm_80 _patches_kernel" in done.stdout
