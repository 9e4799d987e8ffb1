"""The commands of data sets to train on: ``disk-hloc dataset``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

dataset_app = typer.Typer(
    help="Make data sets to train DISK on, in the form of its release.", no_args_is_help=True
)


class Split(str, Enum):
    """Which of the published data."""

    train = "train"
    test = "test"
    both = "both"


Within = Annotated[
    tuple[float, float],
    typer.Option("--covisible", help="Least and greatest share that two images see in common."),
]
TupleSize = Annotated[
    int, typer.Option("--tuple-size", min=2, help="Images of a tuple; the published data have 3.")
]
MaxTuples = Annotated[
    int, typer.Option("--max-tuples", min=1, help="Of a scene, chosen at random beyond that.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")]


@dataset_app.command("from-colmap")
def from_colmap(
    model: Annotated[Path, typer.Argument(help="Folder of a COLMAP model.", show_default=False)],
    images: Annotated[Path, typer.Argument(help="Its photos.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder for the data set.", show_default=False)],
    depth: Annotated[
        Path | None,
        typer.Option(
            help="Folder of COLMAP's *.geometric.bin; else stereo/depth_maps of the dense "
            "workspace that MODEL or IMAGES is in.",
            show_default=False,
        ),
    ] = None,
    no_depth: Annotated[
        bool, typer.Option("--no-depth", help="Leave depth out: for the epipolar reward.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Of the scene; else that of OUT.", show_default=False)
    ] = None,
    within: Within = (0.5, 0.8),
    tuple_size: TupleSize = 3,
    max_tuples: MaxTuples = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of tuples.")] = 0,
    undistort: Annotated[
        bool,
        typer.Option(help="Undistort photos whose camera has distortion; else refuse them."),
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Make a data set from a COLMAP model, its photos and their depth maps.

    disk-hloc dataset from-colmap dense/sparse dense/images OUT

    disk-hloc dataset from-colmap sfm photos OUT --no-depth

    OUT gets dataset.json, calibration/, depth/ and, with distortion, undistorted/. Other photos
    stay where they are.
    """
    from disk_hloc.dataset import from_colmap as tool
    from disk_hloc.errors import DiskHlocError

    if no_depth and depth is not None:
        raise DiskHlocError("--depth and --no-depth exclude each other")
    tool.main(
        model, images, out, name=name, depth=depth, with_depth=not no_depth, within=within,
        size=tuple_size, limit=max_tuples, seed=seed, undistort=undistort, overwrite=overwrite,
    )  # fmt: skip


@dataset_app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder for train/ and test/.", show_default=False)],
    scenes: Annotated[int, typer.Option(min=1, help="Scenes to train on.")] = 4,
    validation_scenes: Annotated[int, typer.Option(min=0, help="Others to validate with.")] = 1,
    photos: Annotated[int, typer.Option(min=2, help="Of a scene.")] = 24,
    size: Annotated[tuple[int, int], typer.Option(help="Width and height of a photo, pixels.")] = (
        768,
        576,
    ),
    noise: Annotated[float, typer.Option(min=0, help="Of the sensor, grey levels.")] = 1.5,
    within: Within = (0.5, 0.8),
    tuple_size: TupleSize = 3,
    max_tuples: MaxTuples = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of textures, places, noise, tuples.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw rooms with exact depth and poses: train/dataset.json and test/dataset.json.

    Run again to go on, or with more scenes. Needs scikit-image (disk_hloc[demo]).
    """
    from disk_hloc.dataset import synthetic as tool

    tool.main(
        out, scenes=scenes, validation_scenes=validation_scenes, photos=photos, image_size=size,
        noise=noise, within=within, size=tuple_size, limit=max_tuples, seed=seed,
        overwrite=overwrite,
    )  # fmt: skip


@dataset_app.command()
def merge(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.json B.json ... OUT.json",
            help="Data sets, or their folders; the last is the file to write.",
            show_default=False,
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.json.")] = False,
) -> None:
    """Put the scenes of several data sets in one file.

    Their photos, depth and calibrations stay where they are. Of scenes with one name, the later
    ones are renamed.
    """
    from disk_hloc.dataset import merge as tool
    from disk_hloc.errors import DiskHlocError

    if len(files) < 2:
        raise DiskHlocError(f"give the file to write after the data sets: {files[0]} OUT.json")
    tool.main(files[:-1], files[-1], overwrite=overwrite)


@dataset_app.command()
def download(
    out: Annotated[Path, typer.Argument(help="Folder for the data.", show_default=False)],
    split: Annotated[Split, typer.Option(help="To train on, to validate with, or both.")] = (
        Split.both
    ),
    url: Annotated[
        str | None, typer.Option(help="A mirror of the data, instead of EPFL's.")
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep archives that are unpacked.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Download anew.")] = False,
) -> None:
    """Download the data that DISK was trained on, from EPFL: 164 GB of MegaDepth and IMW2020.

    Each archive is checked by its MD5 sum, unpacked and removed. OUT gets megadepth/ and
    imw2020-val/, and train and test, which point at them. Run again to resume, also within a file.
    """
    from disk_hloc.dataset import download as tool

    tool.main(
        out, split=split.value, url=url or tool.URL, keep_archives=keep_archives,
        overwrite=overwrite,
    )  # fmt: skip
