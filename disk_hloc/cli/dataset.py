"""The commands ``disk-hloc dataset``: data sets to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from disk_hloc import choices
from disk_hloc.errors import DiskHlocError

from . import options

app = typer.Typer(
    help="Make or download data sets to train DISK on, in the format of its release.",
    no_args_is_help=True,
)


@app.command("from-colmap")
def from_colmap(
    model: options.Model,
    images: Annotated[Path, typer.Argument(help="Folder of the model's photos.")],
    out: Annotated[Path, typer.Argument(help="Folder for the data set.")],
    depth: Annotated[
        Path | None,
        typer.Option(
            help="Folder of COLMAP's *.geometric.bin depth maps.",
            show_default="stereo/depth_maps of the dense workspace that MODEL or IMAGES is in",
        ),
    ] = None,
    no_depth: Annotated[
        bool,
        typer.Option("--no-depth", help="Leave out depth, to train by epipolar geometry."),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the scene.", show_default="that of OUT")
    ] = None,
    within: options.Covisible = (0.5, 0.8),
    tuple_size: options.TupleSize = 3,
    max_tuples: options.MaxTuples = 10_000,
    seed: options.Seed = 0,
    undistort: Annotated[
        bool,
        typer.Option(help="Undistort photos whose camera has distortion, or stop with an error."),
    ] = True,
    overwrite: options.Overwrite = False,
) -> None:
    """Make a data set from a COLMAP model, its photos and their depth maps.

    disk-hloc dataset from-colmap dense/sparse dense/images OUT

    disk-hloc dataset from-colmap sfm photos OUT --no-depth

    OUT gets dataset.json, calibration/, depth/ and, if photos are undistorted, undistorted/. Other
    photos are not copied.
    """
    from disk_hloc.dataset import from_colmap as tool

    if no_depth and depth is not None:
        raise DiskHlocError("--depth and --no-depth exclude each other")
    tool.main(
        model, images, out, name=name, depth=depth, with_depth=not no_depth, within=within,
        size=tuple_size, limit=max_tuples, seed=seed, undistort=undistort, overwrite=overwrite,
    )  # fmt: skip


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder for train/ and test/.")],
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes to train on.")] = 4,
    validation_scenes: Annotated[
        int, typer.Option(min=0, help="Number of other scenes to validate on.")
    ] = 1,
    photos: Annotated[int, typer.Option(min=2, help="Number of photos of a scene.")] = 24,
    size: Annotated[
        tuple[int, int], typer.Option(help="Width and height of a photo, in pixels.")
    ] = (768, 576),
    noise: Annotated[
        float,
        typer.Option(min=0, help="Standard deviation of the sensor noise, in grey levels (0-255)."),
    ] = 1.5,
    within: options.Covisible = (0.5, 0.8),
    tuple_size: options.TupleSize = 3,
    max_tuples: options.MaxTuples = 10_000,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Render rooms with exact depth and poses. Run again to resume, or with more scenes.

    OUT gets train/dataset.json and test/dataset.json. Needs scikit-image.
    """
    from disk_hloc.dataset import synthetic as tool

    tool.main(
        out, scenes=scenes, validation_scenes=validation_scenes, photos=photos, image_size=size,
        noise=noise, within=within, size=tuple_size, limit=max_tuples, seed=seed,
        overwrite=overwrite,
    )  # fmt: skip


@app.command()
def merge(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.json B.json ... OUT.json",
            help="Data sets or their folders; the last one is the file to write.",
        ),
    ],
    overwrite: options.Overwrite = False,
) -> None:
    """Put the scenes of several data sets into one file.

    Their photos, depth maps and calibrations stay where they are. If scenes have the same name,
    the later ones are renamed.
    """
    from disk_hloc.dataset import merge as tool

    if len(files) < 2:
        raise DiskHlocError(f"give the file to write after the data sets: {files[0]} OUT.json")
    tool.main(files[:-1], files[-1], overwrite=overwrite)


@app.command()
def download(
    out: Annotated[Path, typer.Argument(help="Folder for the data.")],
    split: Annotated[
        choices.Split, typer.Option(help="Data to train on, to validate on (test), or both.")
    ] = "both",
    url: Annotated[
        str | None, typer.Option(help="Mirror of the data.", show_default="EPFL's server")
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep archives after unpacking them.")
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Download the data that DISK was trained on: 164 GB of MegaDepth and IMW2020, from EPFL.

    Each archive is checked by its MD5 sum, unpacked and removed. OUT gets megadepth/ and
    imw2020-val/, and train and test, which point to them. Run again to resume, also within a file.
    """
    from disk_hloc.dataset import download as tool

    tool.main(
        out, split=split, url=url or tool.URL, keep_archives=keep_archives, overwrite=overwrite
    )
