"""What the CPU computes, CUDA computes too; run by ``make gpu`` on a machine that has one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from disk_hloc import device as devices
from disk_hloc.io.images import list_images
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.nearest import match, match_together
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract
from disk_hloc.stages import match as matching

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


@pytest.fixture(scope="module")
def images(sacre_coeur: Path) -> list[torch.Tensor]:
    """Four photos of Sacre Coeur as the network takes them, each of its own size."""
    return [
        torch.from_numpy(load_photo(sacre_coeur, name, {"resize_max": 1024}).image)[None]
        for name in list_images(sacre_coeur)[:4]
    ]


@pytest.fixture(autouse=True)
def whole_memory() -> Iterator[None]:
    """Leave no limit of memory behind."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def shared(one: torch.Tensor, other: torch.Tensor, within: float) -> float:
    """Return the share of keypoints that have another within a distance in pixels."""
    # By matrix products distances of pixels would be off by tenths.
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(one.cpu(), other.cpu(), compute_mode=exact)
    return float((distances.amin(dim=1) <= within).float().mean())


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolve in float32; by default cuDNN rounds to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize(
    ("precision", "share", "cosine"), [("float32", 0.995, 0.9999), ("float16", 0.98, 0.998)]
)
@torch.inference_mode()
def test_features_are_those_of_the_cpu(images, precision, share, cosine) -> None:
    conf = {"max_keypoints": 2048, "subpixel": False}
    on_cpu = DISK({**conf, "precision": "float32"})
    on_gpu = DISK({**conf, "precision": precision}).cuda()
    for image in images:
        cpu, gpu = on_cpu({"image": image}), on_gpu({"image": image.cuda()})
        place = {tuple(xy): i for i, xy in enumerate(cpu["keypoints"][0].tolist())}
        both = [
            (place[tuple(xy)], i)
            for i, xy in enumerate(gpu["keypoints"][0].tolist())
            if tuple(xy) in place
        ]
        assert len(both) >= share * len(place)
        a, b = torch.tensor(both).T
        cosines = cpu["descriptors"][0][:, a] * gpu["descriptors"][0].cpu()[:, b]
        assert cosines.sum(dim=0).min() > cosine


@pytest.mark.parametrize(
    ("precision", "within", "share"), [("float32", 0.001, 0.99), ("float16", 0.05, 0.97)]
)
@torch.inference_mode()
def test_positions_between_pixels_are_those_of_the_cpu(
    images, no_tf32, precision, within, share
) -> None:
    on_cpu = DISK({"max_keypoints": 2048})({"image": images[0]})
    model = DISK({"max_keypoints": 2048, "precision": precision}).cuda()
    found = model({"image": images[0].cuda()})
    assert shared(on_cpu["keypoints"][0], found["keypoints"][0], within) >= share


@torch.inference_mode()
def test_the_same_image_gives_the_same_bits(images) -> None:
    model = DISK({"max_keypoints": 2048}).cuda()
    image = images[0].cuda()
    first, second = model({"image": image}), model({"image": image})
    for key, values in first.items():
        assert torch.equal(values[0], second[key][0]), key


@torch.inference_mode()
def test_a_batch_gives_what_each_image_gives(images) -> None:
    model = DISK({"max_keypoints": 2048}).cuda()
    height, width = (min(image.shape[dim] for image in images) for dim in (2, 3))
    batch = torch.cat([image[..., :height, :width] for image in images]).cuda()
    together = model({"image": batch})
    for i, image in enumerate(batch):
        alone = model({"image": image[None]})
        assert shared(alone["keypoints"][0], together["keypoints"][i], 0.05) >= 0.99


@torch.inference_mode()
def test_masked_pixels_have_no_keypoints(images) -> None:
    model = DISK({"max_keypoints": 500}).cuda()
    found = model({"image": images[0].cuda(), "keep": [lambda xy: xy[:, 0] < 300]})
    assert len(found["keypoints"][0]) == 500
    assert found["keypoints"][0][:, 0].max() < 300


@pytest.mark.parametrize("ratio", [None, 0.95])
@pytest.mark.parametrize("limit", [None, 0.9])
@torch.inference_mode()
def test_matches_are_those_of_the_cpu(images, ratio, limit) -> None:
    model = DISK({"max_keypoints": 3000, "precision": "float32"}).cuda()
    d0, d1 = (model({"image": image.cuda()})["descriptors"][0] for image in images[:2])
    expected, scores = match(d0.cpu(), d1.cpu(), ratio, limit)
    found, found_scores = match(d0, d1, ratio, limit)
    # The last bit of a product differs, which decides near ties.
    assert (found.cpu() == expected).float().mean() >= 0.999
    same = found.cpu() == expected
    torch.testing.assert_close(found_scores.cpu()[same], scores[same], atol=1e-5, rtol=0)
    together, _ = match_together(d0.repeat(3, 1, 1), d1.repeat(3, 1, 1), ratio, limit)
    for one in together:
        assert (one == found).float().mean() >= 0.999
    matched = found[found >= 0]
    assert len(matched.unique()) == len(matched)


@torch.inference_mode()
def test_a_matcher_takes_pairs_without_keypoints() -> None:
    empty, some = torch.zeros(2, 128, 0).cuda(), torch.rand(2, 128, 10).cuda()
    for pair in ((empty, some), (some, empty), (empty, empty)):
        found = NearestNeighbors({})({"descriptors0": pair[0], "descriptors1": pair[1]})
        assert (found["matches0"] == -1).all()


@torch.inference_mode()
def test_lightglue_gives_what_it_gives_on_the_cpu(images) -> None:
    from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue

    extractor = DISK({"max_keypoints": 512, "precision": "float32"})
    data: dict[str, torch.Tensor] = {}
    for i, image in enumerate(images[:2]):
        found = extractor({"image": image})
        data |= {f"{key}{i}": found[key][0][None] for key in ("keypoints", "descriptors")}
        data[f"image_size{i}"] = torch.tensor([[image.shape[3], image.shape[2]]])
    model = DiskLightGlue({"precision": "float32"})
    expected = model(data)["matches0"]
    found = model.cuda()({key: values.cuda() for key, values in data.items()})["matches0"]
    assert (expected >= 0).sum() > 50
    # On a GPU kornia's attention is in float16.
    assert (found.cpu() == expected).float().mean() >= 0.96


def test_a_batch_that_does_not_fit_is_halved(
    sacre_coeur: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one size, so that they are taken together; the features are those of a large GPU."""
    import cv2

    photos = tmp_path / "photos"
    photos.mkdir()
    for name in list_images(sacre_coeur):
        resized = cv2.resize(cv2.imread(str(sacre_coeur / name)), (1024, 768))
        cv2.imwrite(str(photos / name), resized)
    conf = find_conf("extractors", "disk-2k")
    extract.main(conf, photos, tmp_path / "whole.h5", device="cuda")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.5e9) / total)
    with caplog.at_level(logging.WARNING):
        extract.main(conf, photos, tmp_path / "small.h5", device="cuda")
    assert "has no memory for" in caplog.text
    with h5py.File(tmp_path / "whole.h5") as one, h5py.File(tmp_path / "small.h5") as other:
        assert sorted(one) == sorted(other) == list_images(photos)
        for name in one:
            a, b = (torch.from_numpy(file[name]["keypoints"][()]) for file in (one, other))
            assert shared(a, b, 0.05) >= 0.99


def test_what_does_not_fit_alone_is_said(images) -> None:
    def compute(items: list[int]) -> list[torch.Tensor]:
        return [torch.empty(1 << 50, dtype=torch.uint8, device="cuda") for _ in items]

    found = list(devices.within_memory([[1, 2]], compute, torch.device("cuda")))
    assert found == [(1, None), (2, None)]


def test_photos_to_matches(sacre_coeur: Path, tmp_path: Path) -> None:
    """Files made on CUDA are close to files made on the CPU."""
    conf, matcher = find_conf("extractors", "disk-2k"), find_conf("matchers", "disk")
    names = list_images(sacre_coeur)[:3]
    listed = tmp_path / "images.txt"
    listed.write_text("\n".join(names))
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{names[0]} {names[1]}\n{names[0]} {names[2]}\n")
    counts = {}
    for device in ("cpu", "cuda"):
        features, matches = tmp_path / f"features-{device}.h5", tmp_path / f"m-{device}.h5"
        extract.main(conf, sacre_coeur, features, image_list=listed, device=device)
        matching.main(matcher, pairs, features, matches, device=device)
        with h5py.File(matches) as file:
            counts[device] = [
                int((group["matches0"][()] >= 0).sum())
                for first in file.values()
                for group in first.values()
            ]
    np.testing.assert_allclose(counts["cuda"], counts["cpu"], rtol=0.03)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_training_step_has_the_gradient_of_the_cpu(recompute: bool, no_tf32: None) -> None:
    from disk_hloc.train.network import Network

    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    gradients = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = Network(weights="depth", recompute=recompute).to(device)
        features = network(images.to(device), grid)
        loss = sum(one.descriptors[:, 0].sum() + one.score.sum() / 10 for one in features)
        loss.backward()
        gradients.append(
            torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None])
        )
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert difference < 1e-2


def grid(heatmap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take every eighth pixel as a keypoint, so that rounding chooses none."""
    y, x = torch.meshgrid(*(torch.arange(4, size, 8) for size in heatmap.shape), indexing="ij")
    xy = torch.stack([x.flatten(), y.flatten()], dim=1).to(heatmap.device)
    return xy, heatmap[xy[:, 1], xy[:, 0]]
