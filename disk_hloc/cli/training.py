"""The commands of training: ``disk-hloc train`` and ``disk-hloc train-auc``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from disk_hloc.errors import DiskHlocError


class RewardName(str, Enum):
    """What a match is judged by."""

    depth = "depth"
    epipolar = "epipolar"


class Precision(str, Enum):
    """Of the network's convolutions."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Credit(str, Enum):
    """Which part of the reward a keypoint's log-probability is weighted by."""

    exact = "exact"
    own = "own"


def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="dataset.json, or a folder with train/dataset.json and test/dataset.json."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for checkpoints, logs and pictures.")],
    validation: Annotated[
        Path | None, typer.Option(help="Data set to validate on after each epoch.")
    ] = None,
    conf: Annotated[str, typer.Option(help="Of configs/train.yaml, or a .yaml file.")] = "disk",
    reward: Annotated[RewardName | None, typer.Option(help="[conf: depth]")] = None,
    height: Annotated[int | None, typer.Option(help="Of images, pixels. [conf: 768]")] = None,
    width: Annotated[int | None, typer.Option(help="Of images, pixels. [conf: 768]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Tuples in a batch. [conf: 2]")] = None,
    substep: Annotated[
        int | None, typer.Option(help="Batches whose gradients make a step. [conf: 1]")
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Batches in an epoch. [conf: 5000]")
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Batches in the first epoch. [conf: 250]")
    ] = None,
    n_epochs: Annotated[int | None, typer.Option(help="Epochs. [conf: 50]")] = None,
    train_scene_limit: Annotated[
        int | None, typer.Option(help="Tuples of a scene in a pass, at random. [conf: 1000]")
    ] = None,
    test_scene_limit: Annotated[
        int | None, typer.Option(help="Tuples of a scene in validation. [conf: 250]")
    ] = None,
    load: Annotated[
        str | None, typer.Option(help="Start from a checkpoint: depth, epipolar or a path.")
    ] = None,
    epoch_offset: Annotated[
        int | None, typer.Option(help="Count epochs, and anneal, from here. [conf: 0]")
    ] = None,
    desc_dim: Annotated[
        int | None, typer.Option(help="Channels of a descriptor; extractors take 128. [conf: 128]")
    ] = None,
    credit: Annotated[
        Credit | None, typer.Option(help="Gradient: exact, or the paper's. [conf: exact]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's. [conf: 0.0001]")] = None,
    recompute: Annotated[
        bool | None, typer.Option("--recompute", help="Less memory, a tenth more time.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many of them.")] = 1,
    precision: Annotated[
        Precision, typer.Option(help="Of the convolutions; the rest is float32.")
    ] = Precision.float32,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read photos.")] = 2,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states.")] = 100,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew instead of resuming.")
    ] = False,
) -> None:
    """Train DISK by policy gradient. Run again to resume.

    OUT gets save-E.pth of each epoch E, which a conf's weights take, state.pt, TensorBoard's files
    and pictures/. An option that is not given is the conf's.
    """
    try:
        from disk_hloc.train.run import main
    except ModuleNotFoundError as error:
        raise DiskHlocError(
            f"training needs {error.name}: pip install 'disk_hloc[train]'"
        ) from error
    from disk_hloc.train.settings import settings

    options = {
        "reward": reward.value if reward else None,
        "height": height,
        "width": width,
        "batch_size": batch_size,
        "substep": substep,
        "chunk_size": chunk_size,
        "warmup": warmup,
        "n_epochs": n_epochs,
        "train_scene_limit": train_scene_limit,
        "test_scene_limit": test_scene_limit,
        "load": load,
        "epoch_offset": epoch_offset,
        "desc_dim": desc_dim,
        "credit": credit.value if credit else None,
        "learning_rate": learning_rate,
        "recompute": recompute,
    }
    path = main(
        dataset, out, settings(conf, options), validation=validation, seed=seed, device=device,
        precision=precision.value, devices=devices, workers=workers, save_every=save_every,
        overwrite=overwrite,
    )  # fmt: skip
    typer.echo(path)


def train_auc(
    events: Annotated[
        list[Path], typer.Argument(help="Event files of TensorBoard, or folders of a run's.")
    ],
    validation_length: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs in an epoch's validation, where the file does not say."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to draw (.png, .svg).")] = None,
) -> None:
    """The validation AUC of each epoch, and which is best: of our runs and of DISK's release's."""
    from disk_hloc.report.tables import aligned
    from disk_hloc.train import auc

    runs = [auc.read_curves(path, validation_length) for path in events]
    epochs = sorted({epoch for run in runs for epoch in run.auc})
    lines = [["epoch", *(run.name for run in runs)]]
    for epoch in epochs:
        values = [run.auc.get(epoch) for run in runs]
        lines.append([str(epoch), *("" if one is None else f"{one:.4f}" for one in values)])
    lines.append(["best", *(str(auc.best_epoch(run)) for run in runs)])
    typer.echo(aligned(lines))
    if plot is not None:
        auc.plot(runs, plot)
