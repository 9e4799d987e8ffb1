"""The commands of maps: build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc.errors import DiskHlocError

from . import options
from .mask_options import mask_options

# A model that exists has its cameras and pairs.
_OF_PHOTOS = (
    "pairs", "camera", "camera_mode", "fix_intrinsics", "engine", "mapper", "robust", "rescue",
)  # fmt: skip

app = typer.Typer(help="Build a map, and ask where photos were taken.", no_args_is_help=True)


@app.command()
@mask_options
def build(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of photos. Or with --images, OUT of disk-hloc reconstruct, or the folder "
            "of a COLMAP model."
        ),
    ],
    map_folder: Annotated[Path, typer.Argument(metavar="MAP", help="Folder of the map to make.")],
    images: options.ImageFolder = None,
    extractor: options.Extractor = "disk",
    matcher: options.SuitableMatcher = None,
    pairs: options.PairsFrom = "auto",
    turn: options.Turn = "auto",
    num_covis: options.NumCovis = 20,
    camera: options.Camera = None,
    camera_mode: options.CameraMode = "auto",
    fix_intrinsics: options.FixIntrinsics = False,
    engine: options.Engine = "auto",
    mapper: options.Mapper = "incremental",
    robust: options.Robust = True,
    rescue: options.Rescue = True,
    georeference: options.Georeference = False,
    verbose: options.Verbose = False,
    on_error: options.OnError = "skip",
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    dask: options.Dask = None,
    masks: dict[str, Any] | None = None,
) -> None:
    """Build a map, in which photos can be localized. Run again to resume.

    Of a folder of photos it is reconstructed first. With --images it takes the features and model
    of a reconstruction, or extracts the photos of a COLMAP model and triangulates them in its
    poses.
    """
    from disk_hloc.pipelines import map_build as pipeline

    given = options.given(ctx)
    idle = [given[name] for name in _OF_PHOTOS if name in given]
    if images is not None and idle:
        raise DiskHlocError(
            f"{source} is a model already: leave out {', '.join(idle)}, or --images"
        )
    pipeline.main(
        source, map_folder, images=images, extractor=extractor, matcher=matcher,
        num_covis=num_covis, masks=masks, overwrite=overwrite, device=device, dask=dask,
        pairs_from=pairs, turn=turn, camera=camera, camera_mode=camera_mode,
        fix_intrinsics=fix_intrinsics, engine=engine, mapper=mapper, robust=robust, rescue=rescue,
        georeference=georeference, verbose=verbose, on_error=on_error,
    )  # fmt: skip
