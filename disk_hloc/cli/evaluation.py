"""The commands of evaluation: ``disk-hloc eval``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

eval_app = typer.Typer(
    help="Evaluate features, matches and models against what is known.", no_args_is_help=True
)


class Estimator(str, Enum):
    """Who estimates relative poses."""

    auto = "auto"
    poselib = "poselib"
    pycolmap = "pycolmap"


Out = Annotated[
    Path, typer.Option(help="Folder for results.json, results.md, results.png and .svg.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]


@eval_app.command()
def hpatches(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="HPatches' sequences: i_*/ and v_*/."),
    ] = None,
    out: Out = Path("outputs/hpatches"),
    extractor: Annotated[str, typer.Option(help="Extractor conf.")] = "disk-2k",
    matcher: Annotated[str, typer.Option(help="Matcher conf.")] = "disk",
    features: Annotated[
        Path | None, typer.Option(help="Evaluate this features file (.h5), extract nothing.")
    ] = None,
    matches: Annotated[
        Path | None, typer.Option(help="Evaluate these matches (.h5) of --features.")
    ] = None,
    cache: Annotated[
        list[Path] | None, typer.Option(help="Published results of D2-Net's layout. Repeatable.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Matching accuracy, homographies and repeatability on HPatches, by D2-Net's protocol.

    Eight scenes of large photos are left out, as in its paper. Predictions are kept in OUT.
    Without DIR, the published results alone.
    """
    from disk_hloc.pipelines import hpatches as pipeline
    from disk_hloc.report import tables as report

    results = pipeline.main(
        folder, out, extractor=extractor, matcher=matcher, features=features, matches=matches,
        caches=cache or [], device=device,
    )  # fmt: skip
    typer.echo(report.aligned(pipeline.table(results["methods"])))


@eval_app.command("make-homographies")
def make_homographies(
    images: Annotated[Path, typer.Argument(help="Folder of photos, at any depth.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make the scenes in.")],
    size: Annotated[int, typer.Option(min=64, help="Longer side of a photo, pixels.")] = 640,
    seed: Annotated[int, typer.Option(min=0, help="Of the random changes.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Take so many photos.")] = None,
) -> None:
    """Make a data set in HPatches' layout of any photos, by known homographies and light."""
    from disk_hloc.eval import homographies

    homographies.main(images, folder, size=size, seed=seed, limit=limit)


@eval_app.command()
def stereo(
    features: Annotated[Path, typer.Argument(help="Features file (.h5).")],
    matches: Annotated[Path, typer.Argument(help="Matches file (.h5).")],
    pairs: Annotated[
        Path | None, typer.Argument(help="Pairs file (.txt), with --calibration.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of calibration_*.h5: K, R and T of each photo.")
    ] = None,
    pairs_with_gt: Annotated[
        Path | None,
        typer.Option(help='SuperGlue\'s pairs, "name0 name1 rot0 rot1 K0 K1 T_0to1" a line.'),
    ] = None,
    out: Out = Path("outputs/stereo"),
    threshold: Annotated[
        float, typer.Option(min=0, help="Of an inlier from its epipolar line, pixels.")
    ] = 1.0,
    estimator: Annotated[
        Estimator, typer.Option(help="auto is PoseLib where it is installed.")
    ] = Estimator.auto,
) -> None:
    """Relative poses of calibrated pairs: mAA and AUC."""
    from disk_hloc.eval import two_views
    from disk_hloc.report import tables as report

    results = two_views.main(
        features, matches, out, pairs=pairs, calibration=calibration, pairs_with_gt=pairs_with_gt,
        threshold=threshold, library=None if estimator is Estimator.auto else estimator.value,
    )  # fmt: skip
    typer.echo(report.aligned(two_views.table(matches.stem, results["figures"])))


@eval_app.command()
def model(
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a COLMAP model.")],
    poses: Annotated[
        Path | None,
        typer.Option(help='Known poses, "name qw qx qy qz tx ty tz" a line (cam_from_world).'),
    ] = None,
    out: Out = Path("outputs/model"),
) -> None:
    """What a COLMAP model holds, and how far its poses are from known ones."""
    from disk_hloc.eval import known_poses
    from disk_hloc.report import tables as report

    results = known_poses.main(folder, out, poses=poses)
    typer.echo(report.aligned(known_poses.table(results["figures"])))


@eval_app.command()
def eth(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A scene: images/ and, if any, database.db.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for features, matches, the model and its figures.")
    ] = Path("outputs/eth"),
    extractor: Annotated[str, typer.Option(help="Extractor conf.")] = "disk",
    matcher: Annotated[str, typer.Option(help="Matcher conf.")] = "disk",
    device: DeviceOption = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", help="Show COLMAP's output.")] = False,
) -> None:
    """The ETH local feature benchmark on one of its scenes. Run again to resume."""
    from disk_hloc.eval import known_poses
    from disk_hloc.pipelines import eth as pipeline
    from disk_hloc.report import tables as report

    results = pipeline.main(
        folder, out, extractor=extractor, matcher=matcher, device=device, verbose=verbose
    )
    typer.echo(report.aligned(known_poses.table(results["figures"])))
