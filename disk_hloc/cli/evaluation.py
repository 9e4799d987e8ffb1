"""The commands of evaluation: ``disk-hloc compare`` and ``disk-hloc eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from disk_hloc import choices

from . import options

eval_app = typer.Typer(
    help="Evaluate features, matches and models against known geometry.", no_args_is_help=True
)

Out = Annotated[Path, typer.Option(help="Output folder.")]


def compare(
    images: options.Images,
    out: Annotated[Path, typer.Argument(help="Folder for results, features and models.")],
    rows: Annotated[
        str,
        typer.Option(
            help="What to compare, comma-separated: names in configs/compare.yaml, or "
            "extractor/matcher."
        ),
    ] = "disk,disk-ratio,disk+lightglue,aliked+lightglue,sift",
    pairs: options.PairsFrom = "auto",
    max_keypoints: options.OptionalMaxKeypoints = None,
    poses: options.Poses = None,
    camera: options.Camera = None,
    camera_mode: options.CameraMode = "auto",
    engine: options.Engine = "auto",
    mapper: options.Mapper = "auto",
    report: options.Report = True,
    verbose: options.Verbose = False,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    dask: options.Dask = None,
) -> None:
    """Compare features and matchers on the same photos, pairs, cameras and mapper.

    OUT gets results.md, results.json, matches.png and report.html. Run again to resume, or to add
    rows. Known cameras (--camera, or those of --poses) are kept fixed.

    Rows in configs/compare.yaml: disk, disk-ratio, disk+lightglue, aliked+lightglue, xfeat,
    xfeat+lighterglue, sift, disk+sift (both in one model), loftr and others, some of which need
    hloc, such as superpoint+superglue, or your own weights, such as posfeat.
    """
    from disk_hloc.eval import comparison
    from disk_hloc.pipelines import compare as pipeline
    from disk_hloc.pipelines import reporting

    results = pipeline.main(
        images, out, rows=[row.strip() for row in rows.split(",") if row.strip()],
        pairs_from=pairs, max_keypoints=max_keypoints, poses=poses, camera=camera,
        camera_mode=camera_mode, engine=engine, mapper=mapper, overwrite=overwrite, device=device,
        dask=dask,
        verbose=verbose,
    )  # fmt: skip
    if report:
        reporting.main(out, images, command=options.command_line())
    typer.echo(comparison.table(results["rows"]))


@eval_app.command()
def hpatches(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="HPatches' folder, with its i_*/ and v_*/ sequences."),
    ] = None,
    out: Out = Path("outputs/hpatches"),
    extractor: options.Extractor = "disk-2k",
    matcher: options.Matcher = "disk",
    features: options.FeaturesFile = None,
    matches: options.MatchesFile = None,
    cache: Annotated[
        list[Path] | None,
        typer.Option(help="Published results, in the format of D2-Net's cache files. Repeatable."),
    ] = None,
    device: options.Device = "auto",
    dask: options.Dask = None,
) -> None:
    """Matching accuracy, homographies and repeatability on HPatches, by D2-Net's protocol.

    Eight scenes of large photos are left out, as in its paper. OUT gets results.json, results.md,
    results.png, results.svg and the predictions, which are reused. With --features and --matches
    nothing is extracted or matched. Without DIR, only the results of --cache are shown.
    """
    from disk_hloc.pipelines import hpatches as pipeline
    from disk_hloc.report import tables

    results = pipeline.main(
        folder, out, extractor=extractor, matcher=matcher, features=features, matches=matches,
        caches=cache or [], device=device, dask=dask,
    )  # fmt: skip
    typer.echo(tables.aligned(pipeline.table(results["methods"])))


@eval_app.command("make-homographies")
def make_homographies(
    images: options.Images,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make the scenes in.")],
    size: Annotated[int, typer.Option(min=64, help="Longer side of a photo, in pixels.")] = 640,
    seed: options.Seed = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only this many photos.", show_default="all")
    ] = None,
) -> None:
    """Make a data set in HPatches' format from any photos.

    Each photo is warped by known homographies, and its light is changed.
    """
    from disk_hloc.eval import homographies

    homographies.main(images, folder, size=size, seed=seed, limit=limit)


@eval_app.command()
def descriptors(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="HPatches' folder, or one of eval make-homographies."),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="What to compare, comma-separated: extractors that describe any pixel, "
            "opencv-sift, skimage-daisy."
        ),
    ] = "disk,opencv-sift",
    out: Out = Path("outputs/descriptors"),
    seed: options.Seed = 0,
    device: options.Device = "auto",
) -> None:
    """Share of corners whose descriptors find each other (PCK), whatever the detector.

    By the protocol of MSNet's code, within 3 and 5 px. OUT gets results.json and results.md.
    """
    from disk_hloc.eval import pck
    from disk_hloc.report import tables

    names = [row.strip() for row in methods.split(",") if row.strip()]
    typer.echo(tables.aligned(pck.table(pck.main(folder, out, names, seed=seed, device=device))))


@eval_app.command()
def stereo(
    features: options.Features,
    matches: options.Matches,
    pairs: Annotated[
        Path | None,
        typer.Argument(help="Pairs file (.txt); needed with --calibration.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of calibration_*.h5 files: K, R and T of each photo."),
    ] = None,
    pairs_with_gt: Annotated[
        Path | None,
        typer.Option(
            help='SuperGlue\'s pairs file, "name0 name1 rot0 rot1 K0 K1 T_0to1" on each line.'
        ),
    ] = None,
    out: Out = Path("outputs/stereo"),
    threshold: Annotated[
        float,
        typer.Option(min=0, help="Largest distance of an inlier to its epipolar line, in pixels."),
    ] = 1.0,
    estimator: Annotated[
        choices.PoseEstimator,
        typer.Option(help="Library that estimates poses; auto is PoseLib if it is installed."),
    ] = "auto",
) -> None:
    """Accuracy (mAA and AUC) of the relative poses of calibrated image pairs.

    OUT gets results.json, results.md, results.png and results.svg.
    """
    from disk_hloc.eval import two_views
    from disk_hloc.report import tables

    results = two_views.main(
        features, matches, out, pairs=pairs, calibration=calibration, pairs_with_gt=pairs_with_gt,
        threshold=threshold, library=None if estimator == "auto" else estimator,
    )  # fmt: skip
    typer.echo(tables.aligned(two_views.table(matches.stem, results["figures"])))


@eval_app.command()
def model(
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a COLMAP model.")],
    poses: Annotated[
        Path | None,
        typer.Option(
            help='Known poses: a file with "name qw qx qy qz tx ty tz" on each line '
            "(cam_from_world)."
        ),
    ] = None,
    out: Out = Path("outputs/model"),
) -> None:
    """Figures of a COLMAP model, and the errors of its poses.

    OUT gets results.json, results.md and, with --poses, results.png and results.svg.
    """
    from disk_hloc.eval import known_poses
    from disk_hloc.report import tables

    results = known_poses.main(folder, out, poses=poses)
    typer.echo(tables.aligned(known_poses.table(results["figures"])))


@eval_app.command()
def triangulation(
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a COLMAP model.")],
    truth: Annotated[
        list[Path],
        typer.Option(
            help="Known surfaces: a point cloud or a mesh (.ply), ETH3D's scan_alignment.mlp, the "
            "folder of a drawn scene, or a folder of depth maps. Repeatable."
        ),
    ],
    depth_cameras: Annotated[
        Path | None,
        typer.Option(
            help="Cameras and poses of the depth maps: a COLMAP model, a drawn scene, or a folder "
            "of calibration_*.h5."
        ),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(
            help="Known poses in the frame of the truth, as for eval model: the model is aligned "
            "with them first.",
            show_default="taken as it is",
        ),
    ] = None,
    out: Out = Path("outputs/triangulation"),
    thresholds: Annotated[
        str, typer.Option(help="Distances in the unit of the truth, comma-separated.")
    ] = "0.01,0.02,0.05",
    cell: Annotated[
        float,
        typer.Option(
            min=0, help="Side of the cells that shares are averaged over; 0 counts points."
        ),
    ] = 0.01,
    min_track_length: Annotated[
        int, typer.Option(min=2, help="Leave out points that fewer images see.")
    ] = 2,
    max_reprojection_error: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Leave out points with a greater reprojection error, in pixels.",
            show_default="all",
        ),
    ] = None,
) -> None:
    """Accuracy and completeness of a model's points, as on ETH3D.

    OUT gets results.json and results.md.
    """
    from disk_hloc.eval import triangulation as evaluation
    from disk_hloc.report import tables

    results = evaluation.main(
        folder, out, truth=truth, reference=depth_cameras, poses=poses,
        thresholds=options.numbers(thresholds, "--thresholds"), cell=cell,
        min_track_length=min_track_length, max_error=max_reprojection_error,
    )  # fmt: skip
    typer.echo(tables.aligned(evaluation.table(results)))


@eval_app.command()
def eth(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a scene: images/ and, optionally, database.db."
        ),
    ],
    out: Out = Path("outputs/eth"),
    extractor: options.Extractor = "disk",
    matcher: options.SuitableMatcher = None,
    device: options.Device = "auto",
    dask: options.Dask = None,
    verbose: options.Verbose = False,
) -> None:
    """The ETH local feature benchmark on one of its scenes. Run again to resume.

    OUT gets features, matches, the model in sfm/, results.json and results.md.
    """
    from disk_hloc.eval import known_poses
    from disk_hloc.pipelines import eth as pipeline
    from disk_hloc.report import tables

    results = pipeline.main(
        folder,
        out,
        extractor=extractor,
        matcher=matcher,
        device=device,
        verbose=verbose,
        dask=dask,
    )
    typer.echo(tables.aligned(known_poses.table(results["figures"])))
