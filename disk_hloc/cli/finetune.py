"""The command ``disk-hloc finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def finetune(
    images: Annotated[
        Path, typer.Argument(help="Folder of photos, at any depth.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder for both models and the weights.", show_default=False)
    ],
    extractor: Annotated[
        str, typer.Option(help="Extractor: disk, disk-2k, disk-epipolar, or a .yaml file.")
    ] = "disk",
    matcher: Annotated[str, typer.Option(help="Matcher conf.")] = "disk",
    poses: Annotated[
        Path | None,
        typer.Option(help="Known poses to judge by: a poses file, or calibration_*.h5's folder."),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(help='Of all photos, kept as it is: "PINHOLE fx,fy,cx,cy".'),
    ] = None,
    dense: Annotated[
        Path | None,
        typer.Option(
            help="COLMAP's dense workspace of these photos, with stereo depth: train by depth."
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option(help="Share of the photos that judge and are not trained on.")
    ] = 0.35,
    within: Annotated[
        tuple[float, float],
        typer.Option(
            "--covisible", help="Least and greatest share that two images have in common."
        ),
    ] = (0.2, 0.9),
    tuple_size: Annotated[int, typer.Option(min=2, help="Images of a tuple.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of the training, a tuple each.")] = 200,
    size: Annotated[
        tuple[int, int],
        typer.Option(help="Width and height of photos in training, multiples of 16."),
    ] = (512, 512),
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew instead of resuming.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Train DISK on photos by the model that it makes of them, and compare before and after.

    Some photos are held out, and pairs of them judge. OUT gets before/ and after/, extractor.yaml
    for --extractor of other commands, results.json, results.md and matches.png. Run again to
    resume. It may not help: a few photos are soon learnt by heart.
    """
    from disk_hloc.pipelines import finetune as pipeline
    from disk_hloc.report import tables as report

    results = pipeline.main(
        images, out, extractor=extractor, matcher=matcher, poses=poses, camera=camera, dense=dense,
        held_out=held_out, within=within, tuple_size=tuple_size, steps=steps, image_size=size,
        learning_rate=learning_rate, seed=seed, overwrite=overwrite, device=device,
    )  # fmt: skip
    typer.echo(report.aligned(pipeline.table(results)))
    typer.echo(report.aligned(pipeline.model_table(results)))
