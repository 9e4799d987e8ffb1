"""The commands ``disk-hloc release ...``: the scripts of DISK's release under their options."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .mask_options import mask_options
from .options import OnError, OnErrorOption

# As in the main command, torch is imported in the commands.

app = typer.Typer(
    help="DISK's released scripts: the same options, files and numbers.", no_args_is_help=True
)


class DetectMode(str, Enum):
    """How keypoints are chosen."""

    nms = "nms"
    rng = "rng"


class ViewMode(str, Enum):
    """What is drawn."""

    keypoints = "keypoints"
    matches = "matches"


class CameraModel(str, Enum):
    """COLMAP's cameras that the release knows."""

    simple_pinhole = "simple-pinhole"
    pinhole = "pinhole"
    simple_radial = "simple-radial"
    opencv = "opencv"


H5Dir = Annotated[
    Path, typer.Argument(help="Folder of keypoints.h5, descriptors.h5, ...", show_default=False)
]
Images = Annotated[Path, typer.Argument(help="Folder of the photos.", show_default=False)]
Extension = Annotated[str, typer.Option(help="Of the photos to take, with or without a dot.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew instead of resuming.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]


@app.command()
def detect(
    h5_dir: H5Dir,
    images: Images,
    height: Annotated[
        int | None, typer.Option(help="Photos are resized and padded to this, with --width.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Likewise; multiples of 16.")] = None,
    image_extension: Extension = "jpg",
    f16: Annotated[bool, typer.Option("--f16", help="Store descriptors as float16.")] = False,
    window: Annotated[int, typer.Option(help="Side of the NMS window in pixels.")] = 5,
    n: Annotated[int | None, typer.Option("--n", help="The most keypoints of a photo.")] = None,
    desc_dim: Annotated[int, typer.Option(help="The checkpoint's descriptor dimension.")] = 128,
    mode: Annotated[
        DetectMode, typer.Option(help="Maxima, or drawn at random as in training.")
    ] = DetectMode.nms,
    model_path: Annotated[
        str,
        typer.Option("--model-path", "--model_path", help="A checkpoint, or depth or epipolar."),
    ] = "depth",
    detection_scores: Annotated[
        bool, typer.Option("--detection-scores", help="Write scores.h5 too.")
    ] = False,
    on_error: OnErrorOption = OnError.skip,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Detect keypoints (detect.py). Run again to resume."""
    from disk_hloc.release import detect as stage

    stage.main(
        h5_dir,
        images,
        height=height,
        width=width,
        image_extension=image_extension,
        f16=f16,
        window=window,
        n=n,
        desc_dim=desc_dim,
        mode=mode.value,
        model_path=model_path,
        detection_scores=detection_scores,
        overwrite=overwrite,
        device=device,
        on_error=on_error.value,
    )


@app.command()
def match(
    h5_dir: H5Dir,
    rt: Annotated[float | None, typer.Option(help="Ratio test; none by default.")] = None,
    save_threshold: Annotated[
        float, typer.Option(help="Leave out pairs with fewer matches.", show_default=False)
    ] = -math.inf,
    u16: Annotated[bool, typer.Option("--u16", help="Store indices as uint16.")] = False,
    f16: Annotated[bool, typer.Option("--f16", help="Compute distances in float16.")] = False,
    max_full_matrix: Annotated[
        int, typer.Option(help="With more distances than this, match chunk by chunk.")
    ] = 10000**2,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Match all pairs of images (match.py). Run again to resume."""
    from disk_hloc.release import match as stage

    stage.main(
        h5_dir,
        rt=rt,
        save_threshold=save_threshold,
        u16=u16,
        f16=f16,
        max_full_matrix=max_full_matrix,
        overwrite=overwrite,
        device=device,
    )


@app.command()
def view(
    h5_dir: H5Dir,
    images: Images,
    mode: Annotated[ViewMode, typer.Argument(help="What to draw.")],
    image_extension: Extension = "jpg",
    save: Annotated[
        Path | None, typer.Option(help="Folder for the pictures; else they are shown.")
    ] = None,
) -> None:
    """Draw keypoints or matches (view_h5.py)."""
    from disk_hloc.release import view as stage

    stage.main(h5_dir, images, mode.value, image_extension=image_extension, save=save)


@app.command()
@mask_options
def to_colmap(
    h5_dir: H5Dir,
    images: Images,
    database_path: Annotated[Path, typer.Option(help="The database to make.")] = Path(
        "database.db"
    ),
    image_extension: Extension = "jpg",
    single_camera: Annotated[
        bool, typer.Option("--single-camera", help="All photos share a camera.")
    ] = False,
    camera_model: Annotated[
        CameraModel, typer.Option(help="opencv: with --single-camera only.")
    ] = CameraModel.simple_radial,
    release_origin: Annotated[
        bool,
        typer.Option(
            "--release-origin", help="Coordinates as the release wrote them, half a pixel off."
        ),
    ] = False,
    masks: dict[str, Any] | None = None,
) -> None:
    """Write a COLMAP database (h5_to_db.py); then: disk-hloc reconstruct --from-database."""
    from disk_hloc.release import to_colmap as stage

    stage.main(
        h5_dir,
        images,
        database_path=database_path,
        image_extension=image_extension,
        single_camera=single_camera,
        camera_model=camera_model.value,
        release_origin=release_origin,
        masks=masks,
    )
