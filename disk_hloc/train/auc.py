"""Which epoch is best: the accuracy of relative poses in validation, from TensorBoard's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.accuracy import mean_accuracy

# Tags of TensorBoard: those of the release, and how many pairs a validation has.
ROTATION, TRANSLATION = "test/pose/Δ_θ", "test/pose/Δ_T"
PRECISION, REWARD = "test/discrete/precision", "train/reward"
PAIRS = "test/pairs"
LIMIT = 10  # degrees


@dataclass(frozen=True)
class Curves:
    """What the events of one run say.

    Attributes:
        name: the run's.
        auc: epoch -> accuracy of poses, 0 to 1.
        precision: epoch -> share of right matches, 0 to 1; {} if it was not logged an epoch.
        reward: (B, 2) number of batches done and expected reward of a pair.
    """

    name: str
    auc: dict[int, float]
    precision: dict[int, float]
    reward: np.ndarray


def read_curves(path: Path, validation_length: int | None = None) -> Curves:
    """Read the events of a run.

    The AUC is the release's: errors are the greater of the rotation's and of the translation's
    direction, and the share below 1, 2, ... 10 degrees is averaged. Epochs that are not validated
    to their end are left out.

    Args:
        path: an event file, or a folder of those of one run; where two say something of the same
            step, the later one counts.
        validation_length: pairs in an epoch's validation; None goes by what the run says, or, for
            files of DISK's release, which does not say it, 750.

    Raises:
        DiskHlocError: no such files, nothing in them, or a validation that is not over.
    """
    scalars = _read(path, (ROTATION, TRANSLATION, PAIRS, PRECISION, REWARD))
    rotation, translation = scalars[ROTATION], scalars[TRANSLATION]
    steps = sorted(set(rotation) & set(translation))
    if not steps:
        raise DiskHlocError(f"{path} has no pose errors: no epoch of it was validated")
    said = set(scalars[PAIRS].values())
    length = validation_length or (int(said.pop()) if len(said) == 1 else 750)
    errors: dict[int, list[float]] = {}
    for step in steps:
        errors.setdefault(step // length, []).append(max(rotation[step], translation[step]))
    whole = {epoch: found for epoch, found in errors.items() if len(found) == length}
    if not whole:
        raise DiskHlocError(
            f"{path} has {len(steps)} pose errors, fewer than the {length} of an epoch: wait for "
            "the end of its validation, or give --validation-length"
        )
    precision = scalars[PRECISION] if scalars[PAIRS] else {}
    reward = np.array(sorted(scalars[REWARD].items()), float).reshape(-1, 2)
    return Curves(
        path.name,
        {epoch: mean_accuracy(np.array(found), LIMIT) for epoch, found in sorted(whole.items())},
        {epoch: value for epoch, value in sorted(precision.items()) if epoch in whole},
        reward,
    )


def best_epoch(curves: Curves) -> int:
    """The epoch of the greatest AUC; of equal ones the first."""
    return max(curves.auc, key=lambda epoch: (curves.auc[epoch], -epoch))


def table(runs: Sequence[Curves]) -> list[list[str]]:
    """Return the AUC of each epoch, a column for each run, and the best epochs.

    Returns:
        Rows of cells: a heading first, then one row for each epoch that any run has, with an empty
        cell where a run does not have it, and the best epochs last.
    """
    rows = [["epoch", *(run.name for run in runs)]]
    for epoch in sorted({epoch for run in runs for epoch in run.auc}):
        values = [run.auc.get(epoch) for run in runs]
        rows.append([str(epoch), *("" if value is None else f"{value:.4f}" for value in values)])
    rows.append(["best", *(str(best_epoch(run)) for run in runs)])
    return rows


def plot(curves: Sequence[Curves], path: Path) -> Path:
    """Draw AUC and, where it was logged, precision and reward of runs.

    Raises:
        DiskHlocError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DiskHlocError(
            "a plot needs matplotlib: pip install 'disk_hloc[train]', or leave --plot out"
        ) from error
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    auc, precision, reward = figure.subplots(1, 3)
    for one in curves:
        auc.plot(list(one.auc), list(one.auc.values()), marker=".", label=one.name)
        precision.plot(list(one.precision), list(one.precision.values()), marker=".")
        if len(one.reward):
            blocks = np.array_split(one.reward, min(len(one.reward), 100))
            means = np.array([block.mean(axis=0) for block in blocks])
            reward.plot(means[:, 0], means[:, 1])
    auc.set_title(f"Validation: AUC at {LIMIT} degrees")
    precision.set_title("Validation: precision of matches")
    reward.set_title("Training: expected reward of a pair")
    for axis, label in ((auc, "epoch"), (precision, "epoch"), (reward, "batches")):
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    for axis in (auc, precision):
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
    if len(curves) > 1:
        auc.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path


def _read(path: Path, tags: Sequence[str]) -> dict[str, dict[int, float]]:
    """Tag -> step -> value of the latest event."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(path.glob("events.out.tfevents.*")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise DiskHlocError(f"{path} is no event file of TensorBoard, nor a folder of any")
    latest: dict[str, dict[int, tuple[float, float]]] = {tag: {} for tag in tags}
    for file in files:
        # Its limits thin out what is more than so many; 0 keeps all.
        events = EventAccumulator(
            str(file), size_guidance={"scalars": 0, "tensors": 0, "images": 1},
            purge_orphaned_data=False,
        )  # fmt: skip
        events.Reload()
        for tag in set(tags) & set(events.Tags()["scalars"]):
            for event in events.Scalars(tag):
                known = latest[tag].get(event.step)
                if known is None or event.wall_time >= known[0]:
                    latest[tag][event.step] = event.wall_time, event.value
    return {
        tag: {step: value for step, (_, value) in found.items()} for tag, found in latest.items()
    }
