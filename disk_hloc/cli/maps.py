"""The commands of maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from disk_hloc.errors import DiskHlocError, SkippedImages, skipped

from . import options
from .mask_options import mask_options

if TYPE_CHECKING:
    from disk_hloc.localizer import Localization

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
    mapper: options.Mapper = "auto",
    robust: options.Robust = True,
    rescue: options.Rescue = True,
    georeference: options.Georeference = False,
    report: options.Report = True,
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
    from disk_hloc.pipelines import reporting

    given = options.given(ctx)
    idle = [given[name] for name in _OF_PHOTOS if name in given]
    if images is not None and idle:
        raise DiskHlocError(
            f"{source} is a model already: leave out {', '.join(idle)}, or --images"
        )
    some_skipped = None
    try:
        pipeline.main(
            source, map_folder, images=images, extractor=extractor, matcher=matcher,
            num_covis=num_covis, masks=masks, overwrite=overwrite, device=device, dask=dask,
            pairs_from=pairs, turn=turn, camera=camera, camera_mode=camera_mode,
            fix_intrinsics=fix_intrinsics, engine=engine, mapper=mapper, robust=robust,
            rescue=rescue, georeference=georeference, verbose=verbose, on_error=on_error,
        )  # fmt: skip
    except SkippedImages as error:  # the map is there all the same
        some_skipped = error
    if report:
        reporting.main(map_folder, images or source, masks=masks, command=options.command_line())
    if some_skipped is not None:
        raise some_skipped


@app.command()
@mask_options
def add(
    map_folder: options.Map,
    images: options.Images,
    camera: options.Camera = None,
    fix_intrinsics: options.FixIntrinsics = False,
    num_matched: options.NumMatched = 20,
    verbose: options.Verbose = False,
    on_error: options.OnError = "skip",
    device: options.Device = "auto",
    dask: options.Dask = None,
    masks: dict[str, Any] | None = None,
) -> None:
    """Register new photos in a map. Run again to resume.

    The poses of the map's photos stay as they are, and no point is lost. Photos that the map has
    already are skipped. If the run fails or is killed, the map is as it was.

    --camera is that of the new photos. Without it, they share the camera of those photos of the map
    that the same device took.
    """
    from disk_hloc.pipelines import map_add as pipeline
    from disk_hloc.report import tables

    report = pipeline.main(
        map_folder, images, camera=camera, fix_intrinsics=fix_intrinsics, num_matched=num_matched,
        masks=masks, device=device, on_error=on_error, dask=dask, verbose=verbose,
    )  # fmt: skip
    typer.echo(f"{len(report['added'])} photos added, {len(report['skipped'])} were there already")
    if report["missing"]:
        typer.echo(tables.missing_photos(report["missing"]))
    if report["unreadable"]:
        raise SkippedImages(skipped(report["unreadable"]))


@app.command()
def info(
    map_folder: options.Map,
    as_json: options.AsJson = False,
) -> None:
    """Show what is in a map: photos, points, cameras, confs, and its size on the disk."""
    from disk_hloc.report import tables
    from disk_hloc.stages import map_info as stage

    found = stage.main(map_folder)
    typer.echo(json.dumps(found, indent=2) if as_json else tables.key_values(stage.figures(found)))


@app.command()
@mask_options
def localize(
    map_folder: options.Map,
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...",
            help="Photos, or folders of them. They are called by their paths below the folder "
            "that all have in common.",
        ),
    ],
    camera: options.Camera = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help='Queries file, "name MODEL width height parameters..." on each line, or a quoted '
            "pattern of several: localize these photos, with these intrinsics.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    rig: Annotated[
        Path | None,
        typer.Option(
            help='JSON list of {"image", "camera", "cam_from_rig": {"quaternion", "translation"}}: '
            "localize these photos together, as one camera.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            help="File to write: .txt (name qw qx qy qz tx ty tz), .json (all that is known) or "
            ".geojson (if the map is georeferenced). May be repeated."
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of each photo, its matches, and the map."),
    ] = None,
    images: options.ImageFolder = None,
    as_json: options.AsJson = False,
    num_retrieved: Annotated[
        int, typer.Option(min=1, help="Number of map photos that each photo is matched with.")
    ] = 10,
    max_keypoints: options.MaxKeypoints = 2048,
    max_error: options.MaxError = 12.0,
    min_agreement: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Refuse a pose if the share of matches that agree with it is less than this part "
            "of that of the map's own photos; 0 never does.",
        ),
    ] = 0.4,
    ground_truth: options.GroundTruth = None,
    on_error: options.OnError = "skip",
    device: options.Device = "auto",
    masks: dict[str, Any] | None = None,
) -> None:
    """Say where photos were taken, in a map.

    Positions are in the frame and units of the map: degrees and metres above sea level if it is
    georeferenced. A photo that shows another place is not localized, and the reason is printed; it
    is an error only if no photo is localized.

    Without --camera, --queries or --rig, intrinsics are those of the map's photos from the same
    device; else the focal length is estimated with the pose, starting from EXIF data if they have
    one. --json prints a line for each photo. --images is for --picture.
    """
    import sys

    from tqdm import tqdm

    from disk_hloc.eval import localization
    from disk_hloc.io.hloc.poses import read_poses
    from disk_hloc.io.localizations import json_line
    from disk_hloc.pipelines import map_localize as pipeline

    def show(name: str, answer: Localization | DiskHlocError) -> None:
        if isinstance(answer, DiskHlocError):
            line = json_line(name, {"error": str(answer)}) if as_json else f"{name}: {answer}"
        else:
            line = json_line(name, answer.to_json()) if as_json else f"{name}: {answer}"
        # Above the bar that shows the progress.
        tqdm.write(line, file=sys.stdout)

    truth = read_poses(ground_truth) if ground_truth else None
    found = pipeline.main(
        map_folder, photos, camera=camera, queries=queries, rig=rig, masks=masks,
        outputs=output or [], picture=picture, images=images, on_error=on_error, each=show,
        num_retrieved=num_retrieved, max_keypoints=max_keypoints, max_error=max_error,
        min_agreement=min_agreement, device=device,
    )  # fmt: skip
    if found.rig is not None:
        line = json_line(str(rig), {"rig": found.rig.to_json()})
        typer.echo(line if as_json else f"{rig}: {found.rig}")
    if truth is not None:
        poses = {name: one.pose for name, one in found.answers.items() if one.pose is not None}
        figures = localization.evaluate(poses, truth)
        line = json_line(str(ground_truth), {"errors": figures})
        typer.echo(line if as_json else localization.text(figures))
    if found.unreadable:
        count = len(found.unreadable)
        raise SkippedImages(
            f"{count} photo{'s were' if count > 1 else ' was'} left out: "
            + "; ".join(found.unreadable.values())
        )
    if not any(one.localized for one in found.answers.values()):
        raise DiskHlocError(f"no photo was localized in {map_folder}: the lines above say why")


@app.command()
def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="MAP", help="Folder of a map, from disk-hloc map build.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")
    ] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name under which browsers reach this server. Repeatable."),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="How many queries may wait; others are sent away (429).")
    ] = 8,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="How long a query waits for its answer, in seconds.")
    ] = 30.0,
    max_upload: Annotated[
        float, typer.Option(min=0.001, help="Largest upload, in megabytes.")
    ] = 32.0,
    max_pixels: Annotated[
        float, typer.Option(min=0.001, help="Largest photo, in millions of pixels.")
    ] = 64.0,
    device: options.Device = "auto",
) -> None:
    """Serve a map over HTTP, with a page for browsers, until Ctrl-C.

    POST /localize takes a photo and returns its pose; GET /map, /healthz and /openapi.json describe
    the rest. There are no passwords: beyond this machine, put a server that has them before it.
    """
    from disk_hloc.serve import run
    from disk_hloc.serve.limits import Limits

    limits = Limits(
        upload_bytes=round(max_upload * 1e6), pixels=round(max_pixels * 1e6),
        queue=queue, answer_seconds=timeout,
    )  # fmt: skip
    run.main(
        folder, host=host, port=port, allowed_hosts=allow_host or (), limits=limits, device=device
    )
