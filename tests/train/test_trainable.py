"""Short trainings of the networks that are not DISK's, from the start to the extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from disk_hloc import models
from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.models.cfe_network import enlarge
from disk_hloc.models.disk_network.keypoints import find_released_keypoints
from disk_hloc.models.resnet import ResNet
from disk_hloc.train import networks, run
from disk_hloc.train.dense import describe
from disk_hloc.train.settings import settings
from disk_hloc.train.trainable import Trainable
from support.errors import one_line_error
from support.random_weights import random_image

SHORT = {
    "height": 64, "width": 64, "batch_size": 1, "warmup": 1, "chunk_size": 1, "n_epochs": 2,
    "warped": False,
}  # fmt: skip
# Conf of configs/train.yaml -> what begins the names of the parameters that it trains.
TRAINED = {
    "posfeat-desc": ("backbone.",),
    "posfeat-detect": ("localheader.",),
    "msnet": ("trunk.", "regress."),
    "cfe-encoder": tuple(f"feature_encoder.{part}{i}." for part in "ed" for i in (1, 2, 3)),
    "cfe-attention": ("early_attentions.", "middle_attentions.", "deep_attentions."),
}


def short(name: str, **options: Any) -> Conf:
    """A conf of configs/train.yaml for a few steps of a small network."""
    conf = settings(name, SHORT | options)
    if "depth" in conf["model"]:
        conf["model"]["depth"] = 18
    return conf


def train(dataset: Path, out: Path, conf: Conf) -> dict[str, Tensor]:
    """Train, and return the parameters of the checkpoint."""
    path = run.main(dataset, out, conf, device="cpu", workers=1)
    return torch.load(path, weights_only=True)["extractor"]


@pytest.fixture(scope="module", params=TRAINED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(name: str, training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was not interrupted."""
    out = tmp_path_factory.mktemp(name)
    train(training_set, out, short(name))
    return out


def test_a_training_changes_its_parts_alone(name: str, whole: Path) -> None:
    torch.manual_seed(0)
    start = networks.build(short(name)["model"]).checkpoint()
    end = torch.load(whole / "save-1.pth", weights_only=True)["extractor"]
    assert list(end) == list(start)
    moved = [key for key, value in end.items() if not torch.equal(value, start[key])]
    trained = [key for key in end if key.startswith(TRAINED[name])]
    assert moved
    assert set(moved) <= set(trained)
    # The statistics of the normalisations are counted where they are trained, and nowhere else.
    counted = {key for key in end if key.endswith("num_batches_tracked") and end[key] > 0}
    assert counted <= set(trained)
    assert all(value.isfinite().all() for value in end.values())


# One of each network, in which normalisations change.
@pytest.mark.parametrize("name", ["posfeat-desc", "msnet", "cfe-attention"], indirect=True)
def test_a_training_is_resumed_to_the_bit(
    name: str, whole: Path, training_set: Path, tmp_path: Path
) -> None:
    train(training_set, tmp_path, short(name, n_epochs=1))
    parts = train(training_set, tmp_path, short(name))
    expected = torch.load(whole / "save-1.pth", weights_only=True)["extractor"]
    for key, value in expected.items():
        assert torch.equal(value, parts[key]), key


@torch.no_grad()
def test_the_extractor_has_the_trained_network(name: str, whole: Path) -> None:
    weights = str(whole / "save-1.pth")
    conf = short(name, load=weights)["model"]
    trained = networks.build(conf).eval()
    extractor = models.load("extractors", conf["name"])({"weights": weights})
    for key, value in trained.checkpoint().items():
        assert torch.equal(value, extractor.net.state_dict()[key]), key
    image = random_image(64, 96)
    (found,) = extractor({"image": image})["descriptors"]
    assert found.shape[1] > 0
    if extractor.describes_pixels:
        (features,) = trained(image, find_released_keypoints)
        described = extractor.describe(image, features.xy.float()).T
        assert len(described) > 20
        torch.testing.assert_close(described, features.descriptors, rtol=0, atol=1e-5)


def small(network: str) -> Trainable:
    """A network of random parameters, as deep as a ResNet-18."""
    torch.manual_seed(1)
    kind = networks.NETWORKS[network]
    return kind(**({"depth": 18} if "depth" in kind.default_conf else {})).eval()


@pytest.mark.parametrize("network", ["posfeat", "msnet", "cfe"])
@torch.no_grad()
def test_features_are_those_of_maps_and_heatmaps(network: str) -> None:
    one = small(network)
    parts = [id(value) for part in one.parts().values() for value in part.parameters()]
    assert sorted(parts) == sorted(id(value) for value in one.parameters())
    images = torch.cat([random_image(64, 96, seed) for seed in (0, 1)])
    heatmaps = one.heatmaps(images)
    assert heatmaps.shape == (2, 64, 96)
    for found, dense, heatmap in zip(
        one(images, find_released_keypoints), one(images, None), heatmaps, strict=True
    ):
        assert len(found.xy) > 5
        torch.testing.assert_close(found.score, heatmap[found.xy[:, 1], found.xy[:, 0]])
        described = describe(dense.levels[0], found.xy.float())
        torch.testing.assert_close(found.descriptors, described, rtol=0, atol=1e-5)


@torch.no_grad()
def test_maps_of_cfe_are_those_of_its_network() -> None:
    one = small("cfe")
    images = torch.cat([random_image(64, 96, seed) for seed in (0, 1)])
    expected = one.net(images)
    encoder = one.net.feature_encoder
    activations = encoder.activations(one.net.prepared(images))
    for i, levels in enumerate(one.maps(images)):
        for k, (level, of_network) in enumerate(zip(levels, expected, strict=True)):
            torch.testing.assert_close(level.descriptors, of_network.descriptors[i])
            torch.testing.assert_close(level.scores, of_network.scores[i, 0])
            assert (level.cell, level.first) == (of_network.stride, (0, 0))
            # Its code enlarges, encodes and decodes, in this order.
            large = enlarge(activations[k][i : i + 1], 2**k)
            code = encoder.get_submodule(f"e{k + 1}")(large)
            back = encoder.get_submodule(f"d{k + 1}")(code).relu()
            torch.testing.assert_close(level.error, F.mse_loss(back, large))
    # The attention lies where its cells are centred.
    heatmap, first = one.heatmaps(images)[0], expected[0]
    torch.testing.assert_close(heatmap[16, 24], first.scores[0, 0, 2, 3])


@pytest.mark.parametrize("network", ["posfeat", "msnet", "cfe"])
def test_the_trunk_starts_with_imagenet_weights(network: str, tmp_path: Path) -> None:
    trunk = ResNet(18)
    path = tmp_path / "resnet18.pth"
    torch.save({"fc.bias": torch.zeros(1000), **trunk.state_dict()}, path)
    kind = networks.NETWORKS[network]
    conf = {**kind.default_conf, "name": network, "trained": None, "weights": None}
    if "depth" in conf:
        conf["depth"] = 18
    started = networks.build({**conf, "imagenet": str(path)}).checkpoint()
    (weight,) = (value for key, value in started.items() if key.endswith("layer1.1.conv2.weight"))
    assert torch.equal(weight, trunk.state_dict()["layer1.1.conv2.weight"])
    # A run that is resumed does not need the file.
    path.unlink()
    networks.build({**conf, "imagenet": str(path)}, from_files=False)
    with pytest.raises(DiskHlocError) as error:
        networks.build({**conf, "imagenet": str(path)})
    assert one_line_error(error, path)
    assert settings("msnet", {"imagenet": str(path)})["model"]["imagenet"] == str(path)


def test_the_second_stage_of_posfeat_starts_where_the_first_ended(
    training_set: Path, tmp_path: Path
) -> None:
    first = train(training_set, tmp_path / "first", short("posfeat-desc", n_epochs=1))
    weights = str(tmp_path / "first" / "save-0.pth")
    second = train(
        training_set, tmp_path / "second", short("posfeat-detect", n_epochs=1, load=weights)
    )
    same = {key for key, value in first.items() if torch.equal(value, second[key])}
    assert {key for key in first if key.startswith("backbone.")} <= same
    assert "localheader.conv1.weight" not in same
    deeper = settings("posfeat-detect", {"load": weights})
    with pytest.raises(DiskHlocError) as error:
        networks.build(deeper["model"])
    assert one_line_error(error, "save-0.pth", "ResNet-50")


def test_a_depth_that_no_resnet_has_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {name: posfeat, depth: 20}\n")
    with pytest.raises(DiskHlocError, match="depth must be one of 18, 34, 50, found 20"):
        settings(str(path))
