"""The commands of localization: describe, localize, and the pipelines of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc.errors import SkippedImages, skipped

from . import options
from .mask_options import mask_options

pipeline_app = typer.Typer(
    help="Run a localization benchmark from photos to poses.", no_args_is_help=True
)


def describe(
    features: options.Features,
    output: Annotated[
        Path, typer.Argument(help="File of global descriptors to make or resume (.h5).")
    ],
    conf: options.Conf = "disk-vlad",
    codebook: Annotated[
        Path | None,
        typer.Option(
            help="Codebook (.npz) of another run to use, so that descriptors can be compared; "
            "otherwise one is learnt from FEATURES."
        ),
    ] = None,
    on_error: options.OnError = "skip",
    overwrite: options.Overwrite = False,
) -> None:
    """Describe each photo by one global descriptor, made of its features, for retrieval.

    Configuration: disk-vlad, the one in configs/global.yaml.
    """
    from disk_hloc.plugin import find_conf
    from disk_hloc.stages import describe as stage

    stage.main(
        find_conf("global", conf), features, output,
        codebook=codebook, overwrite=overwrite, on_error=on_error,
    )  # fmt: skip


def localize(
    reference: Annotated[
        Path, typer.Argument(help="Folder of the COLMAP model, triangulated from these features.")
    ],
    queries: Annotated[
        Path,
        typer.Argument(
            help='Queries file, "name MODEL width height parameters..." on each line, or a quoted '
            "pattern of several."
        ),
    ],
    retrieval: Annotated[
        Path,
        typer.Argument(help="Pairs file: a query and a retrieved image on each line (.txt)."),
    ],
    features: options.Features,
    matches: options.Matches,
    results: Annotated[Path, typer.Argument(help="File of poses to write (.txt).")],
    engine: options.Engine = "auto",
    max_error: options.MaxError = 12.0,
    covisibility_clustering: Annotated[
        bool,
        typer.Option(
            "--covisibility-clustering",
            help="Localize with each group of retrieved images that share points, and keep the "
            "pose with the most inliers.",
        ),
    ] = False,
    prepend_camera_name: Annotated[
        bool,
        typer.Option(
            "--prepend-camera-name",
            help="Write camera/name instead of name, as RobotCar Seasons and CMU Seasons expect.",
        ),
    ] = False,
    ground_truth: options.GroundTruth = None,
) -> None:
    """Localize query photos in a model.

    RESULTS gets "name qw qx qy qz tx ty tz" (cam_from_world) for each query. RESULTS_logs.json
    gets its retrieved images, matches and inliers.
    """
    from disk_hloc.eval import localization
    from disk_hloc.io.hloc.poses import read_poses
    from disk_hloc.stages import localize as stage

    truth = read_poses(ground_truth) if ground_truth else None
    found = stage.main(
        reference, queries, retrieval, features, matches, results,
        engine=engine, max_error=max_error, covisibility_clustering=covisibility_clustering,
        prepend_camera_name=prepend_camera_name,
    )  # fmt: skip
    if truth is not None:
        typer.echo(localization.text(localization.evaluate(found, truth)))


def _aachen(conf: str, description: str) -> Callable[..., None]:
    """Return the command of one version of Aachen."""

    def command(
        dataset: Annotated[Path, typer.Option(help="Folder of the data set, as published.")],
        outputs: Annotated[Path, typer.Option(help="Folder for everything that is made.")],
        extractor: options.OptionalExtractor = None,
        matcher: options.OptionalMatcher = None,
        retrieval: Annotated[
            str | None,
            typer.Option(
                help="Global descriptor: disk-vlad, or one of hloc's, such as netvlad; or a pairs "
                "file.",
                show_default="disk-vlad",
            ),
        ] = None,
        num_covis: options.NumCovis = None,
        num_loc: Annotated[
            int | None,
            typer.Option(help="Number of images retrieved for each query.", show_default="50"),
        ] = None,
        ground_truth: options.GroundTruth = None,
        engine: options.Engine = "auto",
        on_error: options.OnError = "skip",
        overwrite: options.Overwrite = False,
        device: options.Device = "auto",
        dask: options.Dask = None,
        masks: dict[str, Any] | None = None,
    ) -> None:
        from disk_hloc.eval import localization
        from disk_hloc.pipelines import aachen as pipeline

        summary = pipeline.main(
            dataset, outputs, conf=conf, extractor=extractor, matcher=matcher, retrieval=retrieval,
            num_covis=num_covis, num_loc=num_loc, engine=engine, masks=masks,
            ground_truth=ground_truth, overwrite=overwrite, device=device, on_error=on_error,
            dask=dask,
        )  # fmt: skip
        errors = summary.pop("errors", None)
        typer.echo(json.dumps(summary, indent=2))
        if errors is not None:
            typer.echo(localization.text(errors))
        if summary["unreadable"]:
            raise SkippedImages(skipped(summary["unreadable"]))

    command.__doc__ = (
        f"{description} Run again to resume.\n\n"
        f"Options that are not given take their values from configs/{conf}.yaml."
    )
    return mask_options(command)


for _conf, _description in (
    ("aachen", "Localize the queries of Aachen Day-Night v1, with the poses of its NVM model."),
    ("aachen_v1_1", "Localize the queries of Aachen Day-Night v1.1."),
):
    pipeline_app.command(_conf)(_aachen(_conf, _description))
