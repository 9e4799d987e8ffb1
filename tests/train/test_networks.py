"""Networks that are not DISK: parts, checkpoints, and all objectives through whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.disk_network.keypoints import sample_keypoints
from disk_hloc.train import checkpoints, networks, run
from disk_hloc.train.auc import _read
from disk_hloc.train.dense import centers, describe, sample
from disk_hloc.train.features import Level
from disk_hloc.train.network import Network
from disk_hloc.train.settings import settings, trainable_models
from disk_hloc.train.trainable import Trainable
from support.errors import one_line_error
from support.tiny_network import CELL, TinyNetwork


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "tiny", TinyNetwork)


def conf(path: Path, text: str, **options: Any) -> dict[str, Any]:
    """Settings of short runs of the tiny network."""
    path.write_text(
        "preprocessing: {height: 64, width: 64}\n"
        "schedule: {batch_size: 1, warmup: 2, chunk_size: 2, n_epochs: 1}\n" + text
    )
    return settings(str(path), options)


def test_a_network_is_known_by_the_name_of_its_extractor() -> None:
    assert set(networks.NETWORKS) - {"tiny"} == set(trainable_models())


@pytest.mark.parametrize("network", [Network(desc_dim=8), TinyNetwork(8)])
def test_a_network_keeps_the_interface(network: Trainable) -> None:
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    found = network(images, sample_keypoints)
    dense = network(images, None)
    assert network.heatmaps(images).shape == (2, 64, 48)
    names = {name for name, _ in network.named_parameters()}
    assert names == {
        f"{part}.{name}" for part, module in network.parts().items()
        for name, _ in module.named_parameters()
    }  # fmt: skip
    for one, other in zip(found, dense, strict=True):
        assert not one.levels
        assert other.xy.shape == (0, 2)
        assert other.descriptors.shape == (0, one.descriptors.shape[1])
        torch.testing.assert_close(
            describe(other.levels[0], one.xy.float()), one.descriptors, rtol=1e-4, atol=1e-5
        )


def test_frozen_parts_keep_their_values_and_statistics() -> None:
    network = TinyNetwork(8)
    networks.set_training(network, ["detector"])
    before = {name: one.clone() for name, one in network.state_dict().items()}
    found = network(torch.rand(2, 3, 64, 64), sample_keypoints)
    assert not found[0].descriptors.requires_grad
    assert found[0].score.requires_grad
    assert not found[0].detached().descriptors.requires_grad
    for name, one in network.state_dict().items():
        assert torch.equal(one, before[name])
    networks.set_training(network, None)
    network(torch.rand(2, 3, 64, 64), sample_keypoints)
    assert not torch.equal(network.descriptor[1].running_mean, before["descriptor.1.running_mean"])


def test_a_map_is_sampled_between_the_centres_of_its_cells() -> None:
    values = torch.arange(12.0).reshape(1, 3, 4)
    level = Level(values, (4, 4), (1.5, 1.5))
    places = centers(level)
    assert places[[0, 1, 4]].tolist() == [[1.5, 1.5], [5.5, 1.5], [1.5, 5.5]]
    torch.testing.assert_close(sample(level, values, places)[:, 0], values.flatten())
    between = torch.tensor([[3.5, 1.5], [1.5, 3.5], [-9.0, 1.5]])
    assert sample(level, values, between)[:, 0].tolist() == pytest.approx([0.5, 2, 0], abs=1e-5)
    assert float(sample(level, values, between[2:], "zeros")) == 0


OBJECTIVES = {
    "policy": ("objective: {name: policy}", "reward", "detector"),
    "posfeat-detect": (
        "reward: {name: epipolar, threshold: 2, ramp: false}\n"
        "estimator: {affinity: cosine, inverse_temperature: [60, 60], credit: own}\n"
        "optimizer: {name: sgd, learning_rate: 0.1, decay_epochs: [1]}",
        "reward",
        "detector",
    ),
    "line_to_window": ("objective: {name: line_to_window}", "share", "descriptor"),
    "contrastive": ("objective: {name: hardest}", "negative", "descriptor"),
    "triplet": (
        "objective: {name: hardest}\nhardest: {loss: triplet, correspondences: null, margin: 1}",
        "n_matches",
        "descriptor",
    ),
    "attention": ("objective: {name: attention}", "peaky", "attention"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains_its_part_alone(
    name: str, training_set: Path, tmp_path: Path
) -> None:
    text, tag, part = OBJECTIVES[name]
    chosen = conf(
        tmp_path / "mine.yaml", f"model: {{name: tiny, channels: 6, trained: [{part}]}}\n{text}\n"
    )
    torch.manual_seed(5)
    start = TinyNetwork(6).state_dict()
    path = tmp_path / "start.pth"
    torch.save({"tiny": start}, path)
    chosen["model"]["weights"] = str(path)
    validation = training_set if name == "triplet" else None
    end = run.main(
        training_set, tmp_path / "out", chosen, device="cpu", workers=1, validation=validation
    )
    found: dict[str, Tensor] = torch.load(end, weights_only=True)["tiny"]
    assert set(torch.load(end, weights_only=True)) == {"tiny", "settings"}
    moved = {key for key, values in start.items() if not torch.equal(values, found[key])}
    assert moved
    assert all(key.startswith(part) for key in moved)
    assert set(_read(tmp_path / "out", (f"train/{tag}",))[f"train/{tag}"]) == {0, 1}


def test_a_run_of_another_network_is_resumed_to_the_bit(training_set: Path, tmp_path: Path) -> None:
    text = "model: {name: tiny}\nobjective: {name: hardest}\noptimizer: {decay_epochs: [1]}\n"
    ends = []
    for name, epochs in (("whole", (2,)), ("parts", (1, 2))):
        for n_epochs in epochs:
            chosen = conf(tmp_path / "mine.yaml", text, n_epochs=n_epochs)
            end = run.main(training_set, tmp_path / name, chosen, device="cpu", workers=1)
        ends.append(torch.load(end, weights_only=True)["tiny"])
    for key, values in ends[0].items():
        assert torch.equal(values, ends[1][key]), key
    state = checkpoints.load_state(tmp_path / "whole")
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {name: tiny, desc_dim: 8}\n", "desc_dim"),
        ("model: {name: tiny}\nestimator: {affinity: manhattan}\n", "manhattan"),
        ("model: {name: tiny}\nobjective: {name: joint}\n", "joint"),
        ("model: {name: tiny}\noptimizer: {name: lion}\n", "lion"),
        ("model: {name: tiny}\npreprocessing: {height: 66}\n", "height"),
        ("model: {name: tiny}\ndata: {warped: true}\nreward: {name: epipolar}\n", "homographies"),
        ("model: {name: tiny}\ndata: {warped: true}\nwarp: {views: 1}\n", "views"),
    ],
)
def test_wrong_settings_are_errors(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DiskHlocError) as error:
        settings(str(path))
    assert one_line_error(error, said)


def test_options_and_parts_that_a_network_lacks_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {name: tiny}\n")
    with pytest.raises(DiskHlocError, match="--desc-dim is not an option of the network tiny"):
        settings(str(path), {"desc_dim": 64})
    chosen = settings(str(path))
    chosen["model"]["trained"] = ["decoder"]
    with pytest.raises(DiskHlocError, match="descriptor, detector, attention"):
        networks.build(chosen["model"])
    assert chosen["preprocessing"]["height"] % CELL == 0


def test_a_network_without_attention_says_so(training_set: Path, tmp_path: Path) -> None:
    chosen = conf(
        tmp_path / "mine.yaml", "model: {name: disk, desc_dim: 8}\nobjective: {name: attention}\n"
    )
    with pytest.raises(DiskHlocError, match="no attention"):
        run.main(training_set, tmp_path / "out", chosen, device="cpu")
