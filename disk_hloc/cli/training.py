"""The commands of training: train, train-auc and finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc import choices
from disk_hloc.errors import DiskHlocError

from . import options

IMAGES = "Images and scenes"
SCHEDULE = "Schedule and optimization"


def _setting(help_: str, default: str, panel: str | None = None) -> Any:
    """Return an option that overrides the conf; ``default`` is what the conf ``disk`` says."""
    return typer.Option(help=help_, show_default=default, rich_help_panel=panel)


def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="dataset.json, or a folder with train/dataset.json and test/dataset.json; or a "
            "folder of photos, with --warped."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for checkpoints, logs and pictures.")],
    validation: Annotated[
        Path | None,
        typer.Option(help="Data set, or folder of photos, to validate on after each epoch."),
    ] = None,
    conf: options.Conf = "disk",
    reward: Annotated[
        choices.Reward | None,
        _setting("Matches are judged by depth maps or by epipolar geometry.", "depth"),
    ] = None,
    load: Annotated[
        str | None,
        _setting("Checkpoint to start from: depth, epipolar or a path.", "random weights"),
    ] = None,
    imagenet: Annotated[
        str | None,
        _setting("torchvision's file that the ResNet of other networks starts with.", "random"),
    ] = None,
    credit: Annotated[
        choices.Credit | None,
        _setting("Estimator of the gradient: exact, or own, which is the paper's.", "exact"),
    ] = None,
    desc_dim: Annotated[
        int | None,
        _setting("Dimension of a descriptor; the extractors here take 128 only.", "128"),
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option("--recompute", help="Use less memory and 10% more time."),
    ] = None,
    seed: options.Seed = 0,
    height: Annotated[
        int | None,
        _setting("Height that photos are resized and padded to, in pixels.", "768", IMAGES),
    ] = None,
    width: Annotated[
        int | None,
        _setting("Width that photos are resized and padded to, in pixels.", "768", IMAGES),
    ] = None,
    warped: Annotated[
        bool | None,
        typer.Option(
            "--warped",
            help="The data are photos, seen under random homographies: no cameras needed.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    train_scene_limit: Annotated[
        int | None,
        _setting(
            "Largest number of tuples of a scene in one pass, chosen at random.",
            "1000",
            IMAGES,
        ),
    ] = None,
    test_scene_limit: Annotated[
        int | None,
        _setting("Largest number of tuples of a scene in validation.", "250", IMAGES),
    ] = None,
    n_epochs: Annotated[
        int | None,
        _setting("Number of epochs.", "50", SCHEDULE),
    ] = None,
    chunk_size: Annotated[
        int | None,
        _setting("Batches in an epoch.", "5000", SCHEDULE),
    ] = None,
    warmup: Annotated[
        int | None,
        _setting("Batches in the first epoch.", "250", SCHEDULE),
    ] = None,
    batch_size: Annotated[
        int | None,
        _setting("Tuples in a batch.", "2", SCHEDULE),
    ] = None,
    substep: Annotated[
        int | None,
        _setting("Batches whose gradients are summed for one step.", "1", SCHEDULE),
    ] = None,
    epoch_offset: Annotated[
        int | None,
        _setting("Number of the first epoch; annealing depends on it.", "0", SCHEDULE),
    ] = None,
    learning_rate: Annotated[
        float | None,
        _setting("Learning rate of the optimizer.", "0.0001", SCHEDULE),
    ] = None,
    devices: Annotated[
        int, typer.Option(min=1, help="Number of devices.", rich_help_panel=options.RUN)
    ] = 1,
    precision: Annotated[
        choices.Precision,
        typer.Option(
            help="Precision of the convolutions; everything else is float32.",
            rich_help_panel=options.RUN,
        ),
    ] = "float32",
    workers: Annotated[
        int,
        typer.Option(min=1, help="Threads that read photos.", rich_help_panel=options.RUN),
    ] = 2,
    save_every: Annotated[
        int,
        typer.Option(
            min=1, help="Steps between saved states of the run.", rich_help_panel=options.RUN
        ),
    ] = 100,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Train DISK, PoSFeat, MSNet or CFE. Run again to resume.

    OUT gets save-E.pth for each epoch E, which can be used as weights in an extractor conf,
    state.pt, TensorBoard's event files and pictures/.

    Configurations are in configs/train.yaml: disk, disk-warped, posfeat-desc, posfeat-detect,
    msnet, cfe-encoder and cfe-attention; disk-small and others are short. Options override them;
    defaults in parentheses are those of disk.
    """
    try:
        from disk_hloc.train.run import main
    except ModuleNotFoundError as error:
        raise DiskHlocError(
            f"training needs {error.name}: pip install 'disk_hloc[train]'"
        ) from error
    from disk_hloc.train.settings import settings

    given = {
        "reward": reward,
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
        "imagenet": imagenet,
        "epoch_offset": epoch_offset,
        "desc_dim": desc_dim,
        "credit": credit,
        "learning_rate": learning_rate,
        "recompute": recompute,
        "warped": warped,
    }
    path = main(
        dataset, out, settings(conf, given), validation=validation, seed=seed, device=device,
        precision=precision, devices=devices, workers=workers, save_every=save_every,
        overwrite=overwrite,
    )  # fmt: skip
    typer.echo(path)


def train_auc(
    events: Annotated[
        list[Path],
        typer.Argument(help="TensorBoard event files, or folders of a run's event files."),
    ],
    validation_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of pairs in the validation of an epoch.",
            show_default="what the file says, else 750",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to draw (.png, .svg).")] = None,
) -> None:
    """Show the validation AUC of each epoch of a training run, and the best epoch.

    Reads the event files of disk-hloc train, and those of DISK's release.
    """
    from disk_hloc.report.tables import aligned
    from disk_hloc.train import auc

    runs = [auc.read_curves(path, validation_length) for path in events]
    typer.echo(aligned(auc.table(runs)))
    if plot is not None:
        auc.plot(runs, plot)


def finetune(
    images: options.Images,
    out: Annotated[Path, typer.Argument(help="Folder for both models and the weights.")],
    extractor: options.Extractor = "disk",
    matcher: options.Matcher = "disk",
    poses: options.Poses = None,
    camera: options.Camera = None,
    dense: Annotated[
        Path | None,
        typer.Option(
            help="COLMAP's dense workspace of these photos, with stereo depth: train by depth "
            "instead of epipolar geometry."
        ),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(help="Fraction of the photos that is used to evaluate, not to train."),
    ] = 0.35,
    within: options.Covisible = (0.2, 0.9),
    tuple_size: options.TupleSize = 3,
    steps: Annotated[int, typer.Option(min=1, help="Training steps, of one tuple each.")] = 200,
    size: Annotated[
        tuple[int, int],
        typer.Option(help="Width and height of photos in training, in multiples of 16 pixels."),
    ] = (512, 512),
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the optimizer.")] = 1e-5,
    seed: options.Seed = 0,
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    dask: options.Dask = None,
) -> None:
    """Train DISK on a folder of photos, and compare it before and after.

    The training data are made from the model of the photos. Pairs of held-out photos evaluate the
    result: it may not be better, since DISK overfits to a few photos quickly. Only extractors that
    run DISK can be trained. Known cameras (--camera, or those of --poses) are kept fixed.

    OUT gets before/ and after/, extractor.yaml for --extractor of other commands, results.json,
    results.md, matches.png and report.html. Run again to resume.
    """
    from disk_hloc.eval import comparison_of_weights as comparison
    from disk_hloc.pipelines import finetune as pipeline
    from disk_hloc.pipelines import reporting
    from disk_hloc.report import tables

    results = pipeline.main(
        images, out, extractor=extractor, matcher=matcher, poses=poses, camera=camera, dense=dense,
        held_out=held_out, within=within, tuple_size=tuple_size, steps=steps, image_size=size,
        learning_rate=learning_rate, seed=seed, overwrite=overwrite, device=device, dask=dask,
    )  # fmt: skip
    if report:
        reporting.main(out, images, command=options.command_line())
    typer.echo(tables.aligned(comparison.table(results)))
    typer.echo(tables.aligned(comparison.model_table(results)))
