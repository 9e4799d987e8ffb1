"""The commands ``disk-hloc pairs``: which images are matched with which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

app = typer.Typer(
    help="Choose the image pairs to match.",
    no_args_is_help=True,
)

Source = Annotated[Path, typer.Argument(help="Folder of photos, or a features file (.h5).")]


@app.command()
def exhaustive(source: Source, output: options.PairsOutput) -> None:
    """Pair every image with every other."""
    from disk_hloc.stages import pairs as stage

    stage.main("exhaustive", source, output)


@app.command()
def auto(
    source: Source,
    output: options.PairsOutput,
    descriptors: options.DescriptorsFile = None,
    device: options.Device = "auto",
) -> None:
    """Pair all photos of a small folder; of a large one, those that look alike or are neighbours.

    configs/pairs.yaml says what is small. Neighbours are those in a sequence, if successive photos
    look alike, and those taken nearby, by EXIF. A large folder needs --descriptors.
    """
    from disk_hloc.stages import pairs as stage

    stage.main("auto", source, output, descriptors=descriptors, device=device)


@app.command()
def sequential(
    source: Source,
    output: options.PairsOutput,
    overlap: Annotated[int, typer.Option(help="Number of following images.")] = 10,
    quadratic: Annotated[
        bool,
        typer.Option("--quadratic", help="Also pair with the images 2, 4, 8, 16, ... further on."),
    ] = False,
    descriptors: options.DescriptorsFile = None,
    device: options.Device = "auto",
) -> None:
    """Pair every image with the ones that follow it, as for the frames of a video.

    The order is that of the times in EXIF if SOURCE is a folder and all photos have one, else that
    of names, frame2 before frame10. With --descriptors, loops are closed: every tenth image is also
    paired with those that look like it.
    """
    from disk_hloc.stages import pairs as stage

    stage.main(
        "sequential", source, output,
        descriptors=descriptors, device=device, overlap=overlap, quadratic=quadratic,
    )  # fmt: skip


@app.command()
def spatial(
    images: options.Images,
    output: options.PairsOutput,
    num_matched: options.NumMatched = 50,
    max_distance: Annotated[float, typer.Option(help="Largest distance, in metres.")] = 100.0,
) -> None:
    """Pair every photo with the ones taken nearest to it, by the GPS in their EXIF data."""
    from disk_hloc.stages import pairs as stage

    stage.main("spatial", images, output, num_matched=num_matched, max_distance=max_distance)


@app.command()
def covisibility(
    model: options.Model, output: options.PairsOutput, num_matched: options.NumMatched = 20
) -> None:
    """Pair every image of a model with the ones that share the most 3D points with it."""
    from disk_hloc.stages import pairs as stage

    stage.main("covisibility", model, output, num_matched=num_matched)


@app.command()
def poses(
    model: options.Model,
    output: options.PairsOutput,
    num_matched: options.NumMatched = 20,
    max_angle: Annotated[
        float, typer.Option(help="Largest angle between viewing directions, in degrees.")
    ] = 30.0,
) -> None:
    """Pair every image of a model with the nearest ones that look in a similar direction."""
    from disk_hloc.stages import pairs as stage

    stage.main("poses", model, output, num_matched=num_matched, max_angle=max_angle)


@app.command()
def retrieval(
    descriptors: Annotated[
        Path,
        typer.Argument(help="Global descriptors of the queries (.h5), from disk-hloc describe."),
    ],
    output: options.PairsOutput,
    num_matched: options.NumMatched = 20,
    query_prefix: Annotated[
        list[str] | None,
        typer.Option(help="Queries are the images whose names begin with this. Repeatable."),
    ] = None,
    query_list: Annotated[
        Path | None,
        typer.Option(help="Queries are the images named in this file, one on each line."),
    ] = None,
    db_prefix: Annotated[
        list[str] | None,
        typer.Option(help="Database images are the ones whose names begin with this. Repeatable."),
    ] = None,
    db_list: Annotated[
        Path | None,
        typer.Option(help="Database images are the ones named in this file, one on each line."),
    ] = None,
    db_model: Annotated[
        Path | None,
        typer.Option(help="Database images are the ones in this COLMAP model."),
    ] = None,
    db_descriptors: Annotated[
        list[Path] | None,
        typer.Option(
            help="Global descriptors of the database images, if in other files. Repeatable."
        ),
    ] = None,
    min_score: Annotated[
        float, typer.Option(help="Smallest cosine similarity of a pair, from -1 to 1.")
    ] = 0.0,
    device: options.Device = "auto",
) -> None:
    """Pair every query with the database images whose global descriptors are most similar.

    Without the options that choose them, queries and database are all images of DESCRIPTORS.
    """
    from disk_hloc.stages import retrieve as stage

    stage.main(
        descriptors, output, num_matched,
        query_prefix=query_prefix, query_list=query_list, db_prefix=db_prefix, db_list=db_list,
        db_model=db_model, db_descriptors=db_descriptors, min_score=min_score, device=device,
    )  # fmt: skip
