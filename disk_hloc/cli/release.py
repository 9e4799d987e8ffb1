"""The commands ``disk-hloc release``: the scripts of DISK's release, with the same options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc import choices

from . import options
from .mask_options import mask_options

app = typer.Typer(
    help="The scripts of DISK's release: the same options, files and numbers.",
    no_args_is_help=True,
)


@app.command()
def detect(
    h5_dir: options.H5Dir,
    images: options.ReleaseImages,
    height: Annotated[
        int | None,
        typer.Option(
            help="Height that photos are resized and padded to, in pixels; a multiple of 16.",
            show_default="size of the photo",
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            help="Width that photos are resized and padded to, in pixels; a multiple of 16.",
            show_default="size of the photo",
        ),
    ] = None,
    image_extension: options.ImageExtension = "jpg",
    f16: Annotated[bool, typer.Option("--f16", help="Store descriptors as float16.")] = False,
    window: Annotated[
        int, typer.Option(help="Side of the window of non-maximum suppression, in pixels; odd.")
    ] = 5,
    n: Annotated[
        int | None,
        typer.Option("--n", help="Largest number of keypoints of a photo.", show_default="all"),
    ] = None,
    desc_dim: Annotated[
        int, typer.Option(help="Dimension of the descriptors of the checkpoint.")
    ] = 128,
    mode: Annotated[
        choices.DetectMode,
        typer.Option(help="Keypoints are the maxima (nms), or sampled as in training (rng)."),
    ] = "nms",
    model_path: Annotated[
        str,
        typer.Option("--model-path", "--model_path", help="Checkpoint: depth, epipolar or a path."),
    ] = "depth",
    detection_scores: Annotated[
        bool, typer.Option("--detection-scores", help="Write scores.h5, too.")
    ] = False,
    on_error: options.OnError = "skip",
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Detect keypoints (detect.py). Run again to resume.

    H5_DIR gets keypoints.h5 and descriptors.h5.
    """
    from disk_hloc.release import detect as stage

    stage.main(
        h5_dir, images, height=height, width=width, image_extension=image_extension, f16=f16,
        window=window, n=n, desc_dim=desc_dim, mode=mode, model_path=model_path,
        detection_scores=detection_scores, overwrite=overwrite, device=device, on_error=on_error,
    )  # fmt: skip


@app.command()
def match(
    h5_dir: options.H5Dir,
    rt: Annotated[
        float | None,
        typer.Option(
            help="Ratio test: keep matches that are nearer than this times the second nearest.",
            show_default="no test",
        ),
    ] = None,
    save_threshold: Annotated[
        float,
        typer.Option(
            help="Leave out pairs with fewer matches than this.", show_default="keep all pairs"
        ),
    ] = -math.inf,
    u16: Annotated[bool, typer.Option("--u16", help="Store indices as uint16.")] = False,
    f16: Annotated[bool, typer.Option("--f16", help="Compute distances in float16.")] = False,
    max_full_matrix: Annotated[
        int,
        typer.Option(help="Largest number of distances of a pair; above it, match in chunks."),
    ] = 10000**2,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Match all image pairs (match.py). Run again to resume.

    H5_DIR gets matches.h5.
    """
    from disk_hloc.release import match as stage

    stage.main(
        h5_dir, rt=rt, save_threshold=save_threshold, u16=u16, f16=f16,
        max_full_matrix=max_full_matrix, overwrite=overwrite, device=device,
    )  # fmt: skip


@app.command()
def view(
    h5_dir: options.H5Dir,
    images: options.ReleaseImages,
    mode: Annotated[choices.ViewMode, typer.Argument(help="What to draw: keypoints or matches.")],
    image_extension: options.ImageExtension = "jpg",
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures.", show_default="show them on the screen"),
    ] = None,
) -> None:
    """Draw keypoints or matches (view_h5.py)."""
    from disk_hloc.release import view as stage

    stage.main(h5_dir, images, mode, image_extension=image_extension, save=save)


@app.command()
@mask_options
def to_colmap(
    h5_dir: options.H5Dir,
    images: options.ReleaseImages,
    database_path: Annotated[Path, typer.Option(help="COLMAP database to write.")] = Path(
        "database.db"
    ),
    image_extension: options.ImageExtension = "jpg",
    single_camera: Annotated[
        bool, typer.Option("--single-camera", help="All photos share one camera.")
    ] = False,
    camera_model: Annotated[
        choices.ReleaseCamera, typer.Option(help="opencv needs --single-camera.")
    ] = "simple-radial",
    release_origin: options.ReleaseOrigin = False,
    masks: dict[str, Any] | None = None,
) -> None:
    """Write a COLMAP database (h5_to_db.py) for disk-hloc reconstruct --from-database."""
    from disk_hloc.release import to_colmap as stage

    stage.main(
        h5_dir, images, database_path=database_path, image_extension=image_extension,
        single_camera=single_camera, camera_model=camera_model, release_origin=release_origin,
        masks=masks,
    )  # fmt: skip
