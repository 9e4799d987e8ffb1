"""The commands from photos to a model: extract, match, mask, reconstruct, triangulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc import choices
from disk_hloc.errors import DiskHlocError, SkippedImages, UnreadableImages, skipped

from . import options
from .mask_options import mask_options

# With --from-database everything else comes from the database.
_WITH_DATABASE = {
    "images", "out", "from_database", "fix_intrinsics", "mapper", "robust", "georeference",
    "report", "verbose",
}  # fmt: skip


@mask_options
def extract(
    images: options.Images,
    features: Annotated[Path, typer.Argument(help="Features file to make or resume (.h5).")],
    conf: options.Conf = "disk",
    image_list: Annotated[
        Path | None,
        typer.Option(help="File of image names, one on each line, instead of all photos."),
    ] = None,
    turn: options.Turn = "auto",
    preview: options.Preview = None,
    on_error: options.OnError = "skip",
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    dask: options.Dask = None,
    masks: dict[str, Any] | None = None,
) -> None:
    """Extract features from photos. Run again to resume.

    Configurations: disk, disk-2k, disk-epipolar, aliked, sift and the others in
    configs/extractors.yaml, and those of hloc.

    Photos of more than 2^29 pixels are skipped, unless DISK_HLOC_MAX_PIXELS sets another limit.
    """
    from disk_hloc.pipelines import extraction
    from disk_hloc.plugin import find_conf

    unreadable = None
    try:
        extraction.main(
            find_conf("extractors", conf), images, features,
            turn=turn, dask=dask, image_list=image_list, masks=masks, overwrite=overwrite,
            device=device, on_error=on_error,
        )  # fmt: skip
    except UnreadableImages as error:
        unreadable = error
    _preview(preview, images, features, masks)
    if unreadable:
        raise unreadable


def match(
    features: options.Features,
    pairs: options.Pairs,
    matches: Annotated[Path, typer.Argument(help="Matches file to make or resume (.h5).")],
    conf: options.Conf = "disk",
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Features file of the second image of each pair, if it is not in FEATURES."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    dask: options.Dask = None,
) -> None:
    """Match the features of image pairs. Run again to resume.

    Configurations: disk, disk-ratio, disk+lightglue and the others in configs/matchers.yaml, and
    those of hloc.
    """
    from disk_hloc.parallel import shards
    from disk_hloc.plugin import find_conf

    shards.match(
        find_conf("matchers", conf), pairs, features, matches,
        dask=dask, reference_path=reference, overwrite=overwrite, device=device,
    )  # fmt: skip


@mask_options
def mask(
    first: Annotated[
        Path,
        typer.Argument(metavar="FEATURES", help="Features file to mask (.h5); not with --matches."),
    ],
    second: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="File to write (.h5).", show_default=False)
    ] = None,
    matches: options.MatchesFile = None,
    features: options.FeaturesFile = None,
    images: options.ImageFolder = None,
    preview: options.Preview = None,
    overwrite: options.Overwrite = False,
    masks: dict[str, Any] | None = None,
) -> None:
    """Remove masked keypoints from a features file of hloc's format, or their matches.

    disk-hloc mask FEATURES.h5 OUT.h5 --masks DIR

    disk-hloc mask --matches MATCHES.h5 --features FEATURES.h5 OUT.h5 --masks DIR

    The second form masks matches only: the features keep their keypoints and indices. --images is
    needed for --preview, and if the features file has no image sizes.
    """
    from disk_hloc.stages import mask as stage

    if masks is None:
        raise DiskHlocError("no masks are given: give --masks, --mask-file or --coco")
    source, out = (features or first, second) if matches is None else (features, first)
    if source is None or out is None or (matches is not None and second is not None):
        raise DiskHlocError(
            "give FEATURES and OUT, or --matches MATCHES --features FEATURES and OUT"
        )
    if preview is not None and images is None:
        raise DiskHlocError("--preview draws on the photos: give their folder with --images")
    stage.main(masks, source, out, match_path=matches, image_dir=images, overwrite=overwrite)
    if images is not None:
        _preview(preview, images, source, masks)


@mask_options
def reconstruct(
    ctx: typer.Context,
    images: options.Images,
    out: Annotated[Path, typer.Argument(help="Folder for features, matches and the model.")],
    extractor: options.Extractor = "disk",
    matcher: options.SuitableMatcher = None,
    pairs: options.PairsFrom = "auto",
    turn: options.Turn = "auto",
    from_database: Annotated[
        Path | None,
        typer.Option(
            help="Verify the matches of this COLMAP database and build the model from it; nothing "
            "is extracted."
        ),
    ] = None,
    preview: options.Preview = None,
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
    """Build a COLMAP model from a folder of photos. Run again to resume.

    OUT gets features.h5, pairs.txt, matches.h5, sfm/ (the model and its database.db), report.html
    and summary.json, which say why a photo is missing; rescue/ where photos were tried again; with
    --georeference also georeferenced/ (the model in metres), and where pairs are retrieved, global
    descriptors of the photos.
    """
    from disk_hloc.pipelines import reporting, sfm
    from disk_hloc.report import tables

    if from_database is not None:
        _require_only(ctx, _WITH_DATABASE)
        summary = sfm.from_database(
            from_database, images, out,
            fix_intrinsics=fix_intrinsics, mapper=mapper, robust=robust,
            georeference=georeference, verbose=verbose,
        )  # fmt: skip
    else:
        summary = sfm.main(
            images, out, extractor=extractor, matcher=matcher, pairs_from=pairs, turn=turn,
            masks=masks, overwrite=overwrite, device=device, on_error=on_error, dask=dask,
            engine=engine, camera_mode=camera_mode, camera=camera, fix_intrinsics=fix_intrinsics,
            mapper=mapper, robust=robust, rescue=rescue, georeference=georeference,
            verbose=verbose,
        )  # fmt: skip
    if report:
        reporting.main(out, images, masks=masks, command=options.command_line())
    metric = summary.pop("georeference", None)
    unreadable = summary.pop("unreadable")
    summary.pop("turned")  # the log says so
    missing = summary.pop("missing")
    if len(summary["models"]) == 1:
        summary.pop("models")
    _preview(preview, images, out / "features.h5", masks)
    typer.echo(tables.key_values(summary))
    if missing:
        typer.echo(tables.missing_photos(missing))
    if metric is not None:
        typer.echo(tables.key_values({k: v for k, v in metric.items() if k != "photos"}))
    if unreadable:
        raise SkippedImages(skipped(unreadable))


def georeference(
    model: options.Model,
    images: options.Images,
    out: Annotated[Path, typer.Argument(help="Folder for the model in metres.")],
) -> None:
    """Write a model in metres, aligned to the GPS positions of its photos.

    The frame is local: x points east, y north and z up. OUT/georeference.json has the origin in
    degrees, the scale, and the residuals of each photo.
    """
    from disk_hloc.report import tables
    from disk_hloc.stages import georeference as stage

    report = stage.main(model, images, out)
    typer.echo(tables.key_values({k: v for k, v in report.items() if k != "photos"}))


def triangulate(
    sfm: Annotated[Path, typer.Argument(help="Folder to build the model in.")],
    reference: Annotated[
        Path, typer.Argument(help="Folder of the COLMAP model that gives cameras and poses.")
    ],
    images: options.Images,
    pairs: options.Pairs,
    features: options.Features,
    matches: options.Matches,
    verify: Annotated[
        choices.Verify,
        typer.Option(
            help="Use the matches that agree with the known poses (poses), those that agree with "
            "a geometry estimated from them (estimate), or all (none).",
            rich_help_panel=options.MODEL,
        ),
    ] = "poses",
    engine: options.Engine = "auto",
    report: options.Report = True,
    verbose: options.Verbose = False,
) -> None:
    """Triangulate features in a model whose cameras and poses are known."""
    from disk_hloc.pipelines import reporting
    from disk_hloc.stages import triangulate as stage

    stage.main(
        sfm, reference, images, pairs, features, matches,
        engine=engine, verify=verify, verbose=verbose,
    )  # fmt: skip
    if report:
        reporting.main(sfm, images, command=options.command_line())


def _require_only(ctx: typer.Context, allowed: set[str]) -> None:
    """Refuse options that are given on the command line but not used with --from-database."""
    given = [shown for name, shown in options.given(ctx).items() if name not in allowed]
    if given:
        raise DiskHlocError(
            "--from-database takes features, matches and cameras from the database: leave out "
            f"{', '.join(given)} (only --fix-intrinsics, --mapper, --no-robust, --georeference, "
            "--no-report and --verbose go with it)"
        )


def _preview(
    folder: Path | None, images: Path, features: Path, masks: dict[str, Any] | None
) -> None:
    if folder is not None:
        from disk_hloc.report.mask_pictures import mask_previews

        mask_previews(folder, images, features, masks)


@mask_options
def report(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Folder of disk-hloc reconstruct, triangulate, compare or finetune, or a map.",
        ),
    ],
    images: options.ImageFolder = None,
    masks: dict[str, Any] | None = None,
) -> None:
    """Write OUT/report.html: the model in 3D, its photos, pairs and points, in one page.

    Of a comparison or a fine-tuning: its figures, and models and pairs beside each other.

    --images is needed if the photos were moved, or no report was written before. Masked parts of
    photos are tinted.
    """
    from disk_hloc.pipelines import reporting

    typer.echo(reporting.main(out, images, masks=masks))
