"""What the CPU computes, CUDA computes too; run by ``make gpu`` on a machine that has one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from disk_hloc import Localizer, models
from disk_hloc import device as devices
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.images import list_images
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue
from disk_hloc.models.nearest import match, match_together
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, retrieve
from disk_hloc.stages import match as matching
from disk_hloc.train import run
from disk_hloc.train.settings import settings
from support.hloc_files import write_global
from support.maps import CAMERA, QUERIES

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
    """On a GPU no keypoint is dropped, and pairs of a batch stop as each is certain."""
    extractor = DISK({"max_keypoints": 2048, "precision": "float32"})
    found = [extractor({"image": image}) for image in images]
    size = torch.tensor([[image.shape[3], image.shape[2]] for image in images])
    data: dict[str, torch.Tensor] = {}
    for i, chosen in enumerate(([0, 1, 0, 2], [1, 2, 0, 3])):
        data[f"image_size{i}"] = size[chosen]
        for key in ("keypoints", "descriptors"):
            data[f"{key}{i}"] = torch.stack([found[one][key][0] for one in chosen])
    on_gpu = {key: values.cuda() for key, values in data.items()}
    expected = DiskLightGlue({"precision": "float32", "width_confidence": -1})(data)["matches0"]
    dropped = DiskLightGlue({"precision": "float32"})(data)["matches0"]
    assert ((expected >= 0).sum(dim=1) > 100).all()
    for precision, share in (("float32", 0.998), ("auto", 0.99), ("bfloat16", 0.97)):
        model = DiskLightGlue({"precision": precision}).cuda()
        matches = model(on_gpu)["matches0"].cpu()
        assert (matches == expected).float().mean() >= share, precision
        assert (matches == dropped).float().mean() >= share - 0.02, precision
        for i in range(len(matches)):
            alone = model({key: values[i : i + 1] for key, values in on_gpu.items()})["matches0"]
            assert (alone.cpu() == matches[i]).float().mean() >= share, precision


@torch.inference_mode()
def test_lightglue_takes_pairs_of_unequal_numbers(images) -> None:
    extractor = DISK({"max_keypoints": 512}).cuda()
    found = [extractor({"image": image.cuda()}) for image in images[:2]]
    counts = torch.tensor([[512, 300], [411, 512], [333, 333]]).cuda()
    batch: dict[str, torch.Tensor] = {}
    for i in (0, 1):
        width, height = images[i].shape[3], images[i].shape[2]
        batch[f"image_size{i}"] = torch.tensor([[width, height]]).cuda().expand(3, 2)
        for key in ("keypoints", "descriptors"):
            batch[f"{key}{i}"] = torch.stack([found[i][key][0]] * 3)
        batch[f"num_keypoints{i}"] = counts[:, i]
    model = DiskLightGlue().cuda()
    together = model(batch)["matches0"].cpu()
    on_cpu = DiskLightGlue({"width_confidence": -1})
    for row, (count0, count1) in enumerate(counts.tolist()):
        pair = {key: values[row : row + 1] for key, values in batch.items() if "num" not in key}
        for i, count in enumerate((count0, count1)):
            pair[f"keypoints{i}"] = pair[f"keypoints{i}"][:, :count]
            pair[f"descriptors{i}"] = pair[f"descriptors{i}"][..., :count]
        expected = on_cpu({key: values.cpu() for key, values in pair.items()})["matches0"]
        for matches in (model(pair)["matches0"].cpu(), together[row : row + 1, :count0]):
            assert (matches == expected).float().mean() >= 0.98
        assert (together[row, count0:] == -1).all()


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


# Of a few steps of small networks.
SHORT = {
    "height": 64, "width": 64, "batch_size": 2, "warmup": 1, "chunk_size": 2, "n_epochs": 2,
    "warped": False, "substep": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["disk", "posfeat-desc", "posfeat-detect", "msnet", "cfe-encoder", "cfe-attention"]
)
def test_what_is_trained_here_extracts_what_it_extracts_on_the_cpu(
    name: str, training_set: Path, images, no_tf32: None, tmp_path: Path
) -> None:
    conf = settings(name, SHORT)
    if "depth" in conf["model"]:
        conf["model"]["depth"] = 18
    path = run.main(training_set, tmp_path, conf, device="cuda")
    assert torch.load(path, weights_only=True)["extractor"]
    require_cpus_features(conf["model"]["name"], {"weights": str(path)}, images[0])


@pytest.mark.parametrize("name", ["kornia_aliked", "kornia_xfeat"])
def test_other_extractors_give_what_they_give_on_the_cpu(name: str, images, no_tf32: None) -> None:
    require_cpus_features(name, {}, images[0])


@torch.inference_mode()
def require_cpus_features(name: str, conf: dict[str, object], image: torch.Tensor) -> None:
    """Require 95 % of the keypoints, and their descriptors."""
    kind = models.load("extractors", name)
    conf = {**conf, "max_keypoints": 500}
    if "precision" in kind.default_conf:
        conf["precision"] = "float32"
    image = image[..., :480, :640]
    cpu, gpu = kind(conf)({"image": image}), kind(conf).cuda()({"image": image.cuda()})
    xy0, xy1 = (one["keypoints"][0].cpu() for one in (cpu, gpu))
    assert len(xy0) > 100
    nearest = torch.cdist(xy0, xy1, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    same = nearest.values < 0.05
    assert same.float().mean() >= 0.95
    descriptors0, descriptors1 = (one["descriptors"][0].cpu() for one in (cpu, gpu))
    cosines = (descriptors0 * descriptors1[:, nearest.indices]).sum(dim=0)
    assert cosines[same].quantile(0.05) > 0.999


def test_retrieval_finds_the_pairs_of_the_cpu(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(300):
        vector = generator.normal(size=64).astype(np.float32)
        write_global(tmp_path / "global.h5", f"{i}.jpg", vector / np.linalg.norm(vector))
    pairs = [
        set(read_pairs(retrieve.main(tmp_path / "global.h5", tmp_path / device, 10, device=device)))
        for device in ("cpu", "cuda")
    ]
    assert len(pairs[0] & pairs[1]) >= 0.999 * len(pairs[0])


def test_a_map_answers_as_on_the_cpu(fountain_map: Path, data: Path) -> None:
    photos = data / "mini_aachen" / "images_upright"
    on_cpu, on_gpu = (Localizer(fountain_map, device=device) for device in ("cpu", "cuda"))
    for name in QUERIES:
        expected, found = (one.localize(photos / name, CAMERA) for one in (on_cpu, on_gpu))
        assert expected.localized == found.localized
        np.testing.assert_allclose(found.pose.center, expected.pose.center, atol=0.02)


def grid(heatmap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take every eighth pixel as a keypoint, so that rounding chooses none."""
    y, x = torch.meshgrid(*(torch.arange(4, size, 8) for size in heatmap.shape), indexing="ij")
    xy = torch.stack([x.flatten(), y.flatten()], dim=1).to(heatmap.device)
    return xy, heatmap[xy[:, 1], xy[:, 0]]
