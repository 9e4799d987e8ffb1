"""Find the best epoch by the accuracy of relative poses in validation, from TensorBoard's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.accuracy import mean_accuracy
from disk_hloc.io.replace import replaced

# TensorBoard's tags: those of the release, and the number of pairs in a validation.
ROTATION, TRANSLATION = "test/pose/Δ_θ", "test/pose/Δ_T"
PRECISION, REWARD = "test/discrete/precision", "train/reward"
PAIRS = "test/pairs"
# The mean error of a view's corners in pixels, of photos under homographies.
CORNERS = "test/homography/corners"
AUC_LIMIT = 10  # degrees; pixels for homographies
# The number of pairs in a validation of DISK's release, which does not log it.
_RELEASED_PAIRS = 750


@dataclass(frozen=True)
class Curves:
    """The figures that one run has logged.

    Attributes:
        name: name of the run.
        auc: epoch -> accuracy of poses or of homographies, 0 to 1.
        unit: of the errors: ``degrees`` of poses, or ``px`` of homographies.
        precision: epoch -> share of correct matches, 0 to 1; {} if it was not logged per epoch.
        reward: (B, 2) float64 number of finished batches and expected reward of a pair.
    """

    name: str
    auc: dict[int, float]
    precision: dict[int, float]
    reward: np.ndarray
    unit: str = "degrees"


def read_curves(path: Path, validation_length: int | None = None) -> Curves:
    """Read the events of a run.

    The AUC is that of the release: the error of a pair is the maximum of the errors of the rotation
    and of the translation's direction, and the shares below 1, 2, ... 10 degrees are averaged.
    Epochs with an unfinished validation are left out.

    Args:
        path: an event file, or a folder with the event files of one run; of several events for the
            same step, the latest one is used.
        validation_length: number of pairs in an epoch's validation; None uses the logged number, or
            750 for files of DISK's release, which does not log it.

    Raises:
        DiskHlocError: the files do not exist, have no pose errors, or no validation is finished.
    """
    scalars = _read(path, (ROTATION, TRANSLATION, CORNERS, PAIRS, PRECISION, REWARD))
    homographies = bool(scalars[CORNERS])
    rotation, translation = (
        scalars[CORNERS if homographies else tag] for tag in (ROTATION, TRANSLATION)
    )
    steps = sorted(set(rotation) & set(translation))
    if not steps:
        raise DiskHlocError(f"{path} has no pose errors: no epoch was validated")
    logged = set(scalars[PAIRS].values())
    length = validation_length or (int(logged.pop()) if len(logged) == 1 else _RELEASED_PAIRS)
    errors: dict[int, list[float]] = {}
    for step in steps:
        errors.setdefault(step // length, []).append(max(rotation[step], translation[step]))
    whole = {epoch: found for epoch, found in errors.items() if len(found) == length}
    if not whole:
        raise DiskHlocError(
            f"{path} has {len(steps)} pose errors, fewer than the {length} of an epoch: wait until "
            "the validation has finished, or give --validation-length"
        )
    precision = scalars[PRECISION] if scalars[PAIRS] else {}
    reward = np.array(sorted(scalars[REWARD].items()), float).reshape(-1, 2)
    return Curves(
        path.name,
        {
            epoch: mean_accuracy(np.array(found), AUC_LIMIT)
            for epoch, found in sorted(whole.items())
        },
        {epoch: value for epoch, value in sorted(precision.items()) if epoch in whole},
        reward,
        "px" if homographies else "degrees",
    )


def best_epoch(curves: Curves) -> int:
    """Return the epoch with the highest AUC, and the first of several."""
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
    """Plot the AUC of runs and, if logged, their precision and reward.

    Returns:
        ``path``.

    Raises:
        DiskHlocError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DiskHlocError(
            "--plot needs matplotlib: pip install 'disk_hloc[train]', or leave out --plot"
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
    units = sorted({one.unit for one in curves})
    auc.set_title(f"Validation: AUC at {AUC_LIMIT} {' or '.join(units)}")
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
    with replaced(path) as partial:
        figure.savefig(partial, dpi=100, format=path.suffix[1:])
    return path


def _read(path: Path, tags: Sequence[str]) -> dict[str, dict[int, float]]:
    """Read the value of the latest event, by tag and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(path.glob("events.out.tfevents.*")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise DiskHlocError(f"{path} is neither an event file of TensorBoard nor a folder of them")
    latest: dict[str, dict[int, tuple[float, float]]] = {tag: {} for tag in tags}
    for file in files:
        # TensorBoard drops events beyond these limits; 0 keeps all.
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
