"""train-auc: find the best epoch from TensorBoard's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.train.auc import ROTATION, TRANSLATION, best_epoch, plot, read_curves
from support.errors import one_line_error


def log(folder: Path, errors: np.ndarray, start: int = 0, suffix: str = "") -> Path:
    """Write pose errors as the release's training does, one value at a time."""
    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for i, error in enumerate(errors):
            writer.add_scalar(ROTATION, error, start + i)
            writer.add_scalar(TRANSLATION, error / 2, start + i)
    return next(iter(sorted(folder.glob("events*"))))


def released_auc(errors: np.ndarray) -> float:
    """The AUC as the release's compute_validation_auc.py computes it."""
    histogram, _ = np.histogram(errors, bins=np.arange(11))
    return float((histogram / len(errors)).cumsum().mean())


def test_the_auc_is_that_of_the_release(tmp_path: Path) -> None:
    errors = np.random.default_rng(0).uniform(0, 20, (3, 40))
    curves = read_curves(log(tmp_path, errors.flatten()), 40)
    for epoch in range(3):
        assert curves.auc[epoch] == pytest.approx(released_auc(errors[epoch]))
    assert best_epoch(curves) == int(np.argmax([released_auc(one) for one in errors]))
    assert curves.precision == {}


def test_an_unfinished_validation_is_left_out(tmp_path: Path) -> None:
    curves = read_curves(log(tmp_path, np.full(25, 0.5)), 10)
    assert curves.auc == {0: 1.0, 1: 1.0}


def test_a_resumed_run_counts_once(tmp_path: Path) -> None:
    log(tmp_path, np.full(15, 30.0), suffix=".a")
    log(tmp_path, np.full(10, 0.5), start=10, suffix=".b")
    assert read_curves(tmp_path, 10).auc == {0: 0.0, 1: 1.0}


def test_the_command_prints_each_epoch_and_plots(tmp_path: Path) -> None:
    for name, value in (("one", 0.5), ("two", 4.5)):
        log(tmp_path / name, np.full(20, value))
    picture = tmp_path / "auc.png"
    command = ["train-auc", str(tmp_path / "one"), str(tmp_path / "two")]
    result = CliRunner().invoke(
        app, [*command, "--validation-length", "10", "--plot", str(picture)]
    )
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["0", "1.0000", "0.6000"] in lines
    assert ["best", "0", "0"] in lines
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_epochs_without_precision_can_be_plotted(tmp_path: Path) -> None:
    curves = read_curves(log(tmp_path, np.full(10, 0.5)), 10)
    assert plot([curves], tmp_path / "plots" / "auc.svg").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_a_file_that_is_not_an_event_file_is_an_error(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "run"
    if exists:
        path.mkdir()
    with pytest.raises(DiskHlocError) as error:
        read_curves(path)
    assert one_line_error(error, path)


def test_a_run_without_validation_is_an_error(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("train/reward", 1.0, 0)
    with pytest.raises(DiskHlocError, match="no pose errors"):
        read_curves(tmp_path)
    log(tmp_path, np.full(7, 0.5))
    with pytest.raises(DiskHlocError, match="750"):
        read_curves(tmp_path)
