"""Complete trainings of a few steps: checkpoints, resuming, files and errors."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kornia.feature import DISK
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import Busy, DiskHlocError
from disk_hloc.io.output_folder import MARK, claimed
from disk_hloc.io.training.dataset import read_training_set
from disk_hloc.models.disk_network.keypoints import sample_keypoints
from disk_hloc.models.extractors.disk import DISK as Extractor
from disk_hloc.train import checkpoints, run, training_epoch
from disk_hloc.train.auc import _read
from disk_hloc.train.data import batches, load
from disk_hloc.train.estimator import backward_pairs
from disk_hloc.train.network import Network
from disk_hloc.train.objectives import policy
from disk_hloc.train.session import Session
from disk_hloc.train.settings import settings
from support.errors import one_line_error
from support.processes import processes

CONF = {
    "height": 64,
    "width": 64,
    "batch_size": 2,
    "warmup": 3,
    "chunk_size": 4,
    "n_epochs": 2,
    "substep": 2,
    "test_scene_limit": 1,
}
TAGS = ("train/reward", "train/n_pairs", "test/pose/Δ_θ", "test/discrete/reward", "test/auc10")


def train(dataset: Path, out: Path, **changes: Any) -> Path:
    options = {key: changes.pop(key) for key in tuple(changes) if key in settings_keys()}
    changes = {"validation": dataset, "device": "cpu", "save_every": 1, **changes}
    return run.main(dataset, out, settings("disk", CONF | options), **changes)


def settings_keys() -> set[str]:
    from disk_hloc.train.settings import OPTIONS

    return set(OPTIONS)


def parameters(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["disk"]


def assert_same_course(one: Path, other: Path) -> None:
    """Check that figures and parameters are the same at all steps, bit for bit."""
    figures = _read(one, TAGS)
    assert figures == _read(other, TAGS)
    assert len(figures["train/reward"]) == 7
    for epoch in (0, 1):
        paths = [checkpoints.checkpoint_path(folder, epoch) for folder in (one, other)]
        for mine, theirs in zip(*(parameters(path).values() for path in paths), strict=True):
            assert torch.equal(mine, theirs)


@pytest.fixture(scope="module")
def whole(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert train(training_set, out) == out / "save-1.pth"
    return out


def test_a_run_writes_checkpoints_logs_and_pictures(whole: Path) -> None:
    assert sorted(path.name for path in whole.glob("save-*")) == ["save-0.pth", "save-1.pth"]
    assert sorted(path.name for path in (whole / "pictures").iterdir()) == [
        "000-0.jpg", "000-1.jpg", "001-0.jpg", "001-1.jpg",
    ]  # fmt: skip
    figures = _read(whole, TAGS)
    assert sorted(figures["train/reward"]) == list(range(7))
    assert sorted(figures["test/pose/Δ_θ"]) == list(range(4))
    assert sorted(figures["test/auc10"]) == [0, 1]
    assert [path.name for path in whole.glob(".*")] == [MARK]
    first, last = (parameters(whole / f"save-{epoch}.pth") for epoch in (0, 1))
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_kornia_and_the_extractor_read_a_checkpoint(whole: Path) -> None:
    path = whole / "save-1.pth"
    content = torch.load(path, weights_only=True)
    DISK().load_state_dict(content["extractor"])
    for name, values in content["disk"].items():
        assert torch.equal(values, content["extractor"][name])
    # Both names for the same bytes.
    assert path.stat().st_size < 1.2 * sum(4 * one.numel() for one in content["disk"].values())
    assert content["settings"]["schedule"]["chunk_size"] == 4
    assert content["settings"]["run"]["seed"] == 0
    extractor = Extractor({"weights": str(path)})
    assert extractor({"image": torch.rand(1, 3, 64, 64)})["descriptors"][0].shape[0] == 128


def attempt(dataset: Path, out: Path) -> None:
    """Start a run in its own process."""
    torch.set_num_threads(1)
    train(dataset, out)


def test_a_run_that_is_killed_repeatedly_gives_the_same_results(
    training_set: Path, whole: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    state = tmp_path / checkpoints.STATE
    killed = 0
    while True:
        before = state.stat().st_mtime_ns if state.exists() else None
        process = processes.Process(target=attempt, args=(training_set, tmp_path))
        process.start()
        # It is killed at any moment after it has saved something; the last time it may finish.
        while process.is_alive() and killed < 4:
            process.join(0.01)
            if state.exists() and state.stat().st_mtime_ns != before:
                process.join(rng.uniform(0, 0.4))
                if process.is_alive():
                    process.kill()
                    killed += 1
                break
        process.join(120)
        if process.exitcode != -signal.SIGKILL:
            break
        if state.exists():
            assert checkpoints.load_state(tmp_path) is not None
        for path in tmp_path.glob("save-*.pth"):
            parameters(path)
    assert process.exitcode == 0
    assert killed == 4
    assert_same_course(whole, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps_and_loses_none(
    number: int,
    training_set: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backward = training_epoch._backward
    pressed = []

    def press_once(session: Session, *args: Any) -> Any:
        figures = backward(session, *args)
        if session.done == 4 and not pressed:
            pressed.append(True)
            signal.raise_signal(number)
        return figures

    monkeypatch.setattr(training_epoch, "_backward", press_once)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not in a step"))
    try:
        with pytest.raises(KeyboardInterrupt):
            train(training_set, tmp_path, save_every=100)
    finally:
        signal.signal(signal.SIGTERM, before)
    state = checkpoints.load_state(tmp_path)
    assert state is not None
    assert state["done"] == 5
    train(training_set, tmp_path, save_every=100)
    assert_same_course(whole, tmp_path)


def test_another_seed_gives_other_results(training_set: Path, whole: Path, tmp_path: Path) -> None:
    train(training_set, tmp_path, n_epochs=1, seed=1, validation=None)
    mine, theirs = (_read(path, TAGS)["train/reward"] for path in (tmp_path, whole))
    assert mine[0] != theirs[0]


def test_a_finished_run_can_be_continued(training_set: Path, whole: Path, tmp_path: Path) -> None:
    train(training_set, tmp_path, n_epochs=1)
    with pytest.raises(DiskHlocError) as error:
        train(training_set, tmp_path, n_epochs=1)
    assert one_line_error(error, tmp_path, "--n-epochs")
    train(training_set, tmp_path)
    assert_same_course(whole, tmp_path)


def test_other_settings_are_refused_unless_overwriting(training_set: Path, tmp_path: Path) -> None:
    train(training_set, tmp_path, n_epochs=1, validation=None)
    with pytest.raises(DiskHlocError) as error:
        train(training_set, tmp_path, reward="epipolar", seed=3)
    assert one_line_error(error, tmp_path, "'depth'", "'epipolar'", "seed", "--overwrite")
    train(training_set, tmp_path, n_epochs=1, reward="epipolar", validation=None, overwrite=True)
    assert len(list(tmp_path.glob("events*"))) == 1
    content = torch.load(tmp_path / "save-0.pth", weights_only=True)
    assert content["settings"]["reward"]["name"] == "epipolar"


def test_other_data_are_refused(training_set: Path, tmp_path: Path) -> None:
    train(training_set, tmp_path / "out", n_epochs=1)
    moved = shutil.copytree(training_set.parent, tmp_path / "moved") / training_set.name
    train(moved, tmp_path / "out", n_epochs=2)
    content = json.loads(moved.read_text())
    next(iter(content.values()))["tuples"].pop()
    moved.write_text(json.dumps(content))
    with pytest.raises(DiskHlocError) as error:
        train(moved, tmp_path / "out", n_epochs=3)
    assert one_line_error(error, "run: data was '6 tuples of 6 images (scenes: 2", "'5 tuples")


def test_runs_of_earlier_versions_are_resumed(
    training_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(training_set, tmp_path, n_epochs=1)
    state = checkpoints.load_state(tmp_path)
    del state["settings"]["run"]["data"]
    # What those versions did is the default of what can be set now.
    del state["settings"]["objective"], state["settings"]["warp"]
    del state["settings"]["model"]["trained"], state["settings"]["optimizer"]["name"]
    checkpoints.save_state(tmp_path, state)
    with caplog.at_level("INFO"):
        train(training_set, tmp_path, n_epochs=2)
    assert "does not say which data" in caplog.text
    assert "data" in checkpoints.load_state(tmp_path)["settings"]["run"]


def test_training_starts_from_a_checkpoint_at_another_epoch(
    training_set: Path, whole: Path, tmp_path: Path
) -> None:
    before = whole / "save-1.pth"
    path = train(
        training_set, tmp_path, load=str(before), epoch_offset=7, n_epochs=1, chunk_size=2,
        validation=None, learning_rate=1e-9,
    )  # fmt: skip
    assert path == tmp_path / "save-7.pth"
    for name, values in parameters(path).items():
        torch.testing.assert_close(values, parameters(before)[name], rtol=0, atol=1e-6)


def test_a_broken_state_is_an_error(training_set: Path, tmp_path: Path) -> None:
    for content in (b"nothing", b""):
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(DiskHlocError) as error:
            train(training_set, tmp_path)
        assert one_line_error(error, tmp_path / "state.pt", "--overwrite")


def test_the_releases_folders_are_found(training_set: Path, tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).symlink_to(training_set.parent)
    assert run._sets(tmp_path, None) == (
        tmp_path / "train" / "dataset.json",
        tmp_path / "test" / "dataset.json",
    )
    assert run._sets(training_set, None) == (training_set, None)


def test_the_command_trains(training_set: Path, tmp_path: Path) -> None:
    conf = tmp_path / "mine.yaml"
    conf.write_text("model: {name: disk}\nschedule: {warmup: 1, n_epochs: 1}\n")
    command = ["train", str(training_set), str(tmp_path / "out"), "--conf", str(conf)]
    options = ["--height", "64", "--width", "64", "--batch-size", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, *options, "--recompute", "--credit", "own"])
    assert result.exit_code == 0, result.output
    content = torch.load(tmp_path / "out" / "save-0.pth", weights_only=True)
    assert content["settings"]["estimator"]["credit"] == "own"
    assert content["settings"]["model"]["recompute"] is True


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model: {name: disk}\nrewards: {}\n", "rewards"),
        ("model: {name: disk}\nreward: {nme: depth}\n", "nme"),
        ("model: {name: disk}\nreward: {name: pose}\n", "pose"),
        ("model: {name: disk}\nschedule: {chunk_size: 0}\n", "chunk_size"),
        ("model: {name: disk}\nschedule: {chunk_size: 1.5}\n", "chunk_size"),
        ("model: {name: disk}\npreprocessing: {height: 100}\n", "height"),
        ("model: {name: superpoint}\n", "superpoint"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_conf(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(DiskHlocError) as error:
        settings(str(path))
    assert one_line_error(error, said)


def test_missing_devices_are_errors(training_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="a single device"):
        train(training_set, tmp_path, device="cpu:0", devices=2)
    with pytest.raises(DiskHlocError):
        train(training_set, tmp_path, device="cuda:7")
    with pytest.raises(DiskHlocError, match="precision"):
        train(training_set, tmp_path, precision="float8")


def test_two_devices_average_their_gradients(training_set: Path, tmp_path: Path) -> None:
    conf = settings("disk", CONF | {"batch_size": 1, "substep": 1, "warmup": 1, "n_epochs": 1})
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    scenes = read_training_set(training_set)
    reward, loss = policy.reward_of(conf, 0), policy.loss_of(conf, 0)
    for rank in range(2):
        tuples = next(batches(scenes, 1000, 1, 0, rank=rank, world_size=2))
        batch = load(scenes, tuples, (64, 64), "cv2_linear")
        torch.manual_seed(training_epoch.batch_seed(0, 0, rank))
        features = network(batch.images, sample_keypoints)
        surrogate, _ = backward_pairs([features], batch.views, reward, loss)
        (surrogate / 2).backward()
    optimizer.step()

    command = [sys.executable, "-m", "disk_hloc", "train", str(training_set), str(tmp_path / "two")]
    options = "--height 64 --width 64 --batch-size 1 --warmup 1 --n-epochs 1 --test-scene-limit 1"
    command += [*options.split(), "--device", "cpu", "--devices", "2"]
    command += ["--validation", str(training_set)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    trained = parameters(tmp_path / "two" / "save-0.pth")
    for name, expected in network.state_dict().items():
        # Adam steps by the sign of the gradient first, which depends on rounding near zero.
        agree = (trained[name] - expected).abs() < 1e-6
        assert agree.float().mean() > 0.95 or name.endswith("3.bias"), name
    # Both devices validate their share of the pairs.
    assert _read(tmp_path / "two", ("test/pairs",)) == {"test/pairs": {0: 2.0}}


def test_a_second_run_in_a_folder_ends_at_once(training_set: Path, tmp_path: Path) -> None:
    with claimed(tmp_path / "out"), pytest.raises(Busy, match="another process is writing"):
        train(training_set, tmp_path / "out")
    assert not list((tmp_path / "out").glob("events*"))
