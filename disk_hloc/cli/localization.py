"""The commands of localization: pairs, triangulate, localize, pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc.errors import DiskHlocError, SkippedImages, skipped
from disk_hloc.plugin import find_conf

from .mask_options import mask_options
from .options import OnError, OnErrorOption

pairs_app = typer.Typer(
    help="Choose the pairs of images to match, or of queries and images to localize with.",
    no_args_is_help=True,
)
pipeline_app = typer.Typer(help="Whole benchmarks.", no_args_is_help=True)


class Engine(str, Enum):
    """Whose code builds models and localizes."""

    auto = "auto"
    hloc = "hloc"
    native = "native"


class Verify(str, Enum):
    """Which matches are triangulated."""

    poses = "poses"
    estimate = "estimate"
    none = "none"


EngineOption = Annotated[
    Engine, typer.Option(help="hloc's modules, pycolmap directly (native), or what works (auto).")
]
Dask = Annotated[
    str | None,
    typer.Option(
        help="Extract and match by workers: local:N, tcp://HOST:PORT, or a .yaml of batch jobs."
    ),
]
Source = Annotated[Path, typer.Argument(help="Folder of photos or features file.")]
Model = Annotated[Path, typer.Argument(help="Folder of a COLMAP model.")]
Pairs = Annotated[Path, typer.Argument(help="Pairs file: two image names a line (.txt).")]
Output = Annotated[Path, typer.Argument(help="Pairs file to write (.txt).")]
Features = Annotated[Path, typer.Argument(help="Features file (.h5).")]
Matches = Annotated[Path, typer.Argument(help="Matches file (.h5).")]


@pairs_app.command()
def exhaustive(source: Source, output: Output) -> None:
    """Every image with every other."""
    from disk_hloc.stages import pairs as stage

    stage.main("exhaustive", source, output)


@pairs_app.command()
def sequential(
    source: Source,
    output: Output,
    overlap: Annotated[int, typer.Option(help="With how many that follow, by name.")] = 10,
    quadratic: Annotated[
        bool, typer.Option("--quadratic", help="Also with those 2, 4, 8, ... further on.")
    ] = False,
) -> None:
    """Every image with those that follow it, as for the frames of a video."""
    from disk_hloc.stages import pairs as stage

    stage.main("sequential", source, output, overlap=overlap, quadratic=quadratic)


@pairs_app.command()
def covisibility(
    model: Model,
    output: Output,
    num_matched: Annotated[int, typer.Option(help="With how many images at most.")] = 20,
) -> None:
    """Every image of a model with those that share the most points with it."""
    from disk_hloc.stages import pairs as stage

    stage.main("covisibility", model, output, num_matched=num_matched)


@pairs_app.command()
def poses(
    model: Model,
    output: Output,
    num_matched: Annotated[int, typer.Option(help="With how many images at most.")] = 20,
    max_angle: Annotated[float, typer.Option(help="Between viewing directions, degrees.")] = 30.0,
) -> None:
    """Every image of a model with the nearest that look the same way."""
    from disk_hloc.stages import pairs as stage

    stage.main("poses", model, output, num_matched=num_matched, max_angle=max_angle)


@pairs_app.command()
def retrieval(
    descriptors: Annotated[
        Path, typer.Argument(help="Global descriptors of the queries (.h5): disk-hloc describe.")
    ],
    output: Output,
    num_matched: Annotated[int, typer.Option(help="Retrieved images a query.")] = 20,
    query_prefix: Annotated[
        list[str] | None, typer.Option(help="The queries' names begin so. Repeatable.")
    ] = None,
    query_list: Annotated[
        Path | None, typer.Option(help="File of the queries' names, one a line.")
    ] = None,
    db_prefix: Annotated[
        list[str] | None, typer.Option(help="The database images' names begin so. Repeatable.")
    ] = None,
    db_list: Annotated[
        Path | None, typer.Option(help="File of the database images' names, one a line.")
    ] = None,
    db_model: Annotated[
        Path | None, typer.Option(help="The database is the images of this COLMAP model.")
    ] = None,
    db_descriptors: Annotated[
        list[Path] | None,
        typer.Option(help="Their global descriptors, if in other files. Repeatable."),
    ] = None,
    min_score: Annotated[float, typer.Option(help="Least cosine of a pair.")] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Every query with the images most like it, by their global descriptors."""
    from disk_hloc.io.colmap import read_model
    from disk_hloc.stages import retrieve as stage

    names: Path | list[str] | None = db_list
    if db_model is not None:
        if db_list or db_prefix:
            raise DiskHlocError("give one of --db-model, --db-list and --db-prefix")
        names = [image.name for image in read_model(db_model).images.values()]
    stage.main(
        descriptors, output, num_matched,
        query_prefix=query_prefix, query_list=query_list, db_prefix=db_prefix, db_list=names,
        db_descriptors=db_descriptors, min_score=min_score, device=device,
    )  # fmt: skip


def describe(
    features: Features,
    output: Annotated[Path, typer.Argument(help="File of global descriptors to make (.h5).")],
    conf: Annotated[str, typer.Option(help="disk-vlad, or a .yaml file.")] = "disk-vlad",
    codebook: Annotated[
        Path | None, typer.Option(help="Take this codebook (.npz) instead of learning one.")
    ] = None,
    on_error: OnErrorOption = OnError.skip,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew.")] = False,
) -> None:
    """Describe each photo by one vector made of its features, to retrieve photos by."""
    from disk_hloc.stages import describe as stage

    stage.main(
        find_conf("global", conf), features, output,
        codebook=codebook, overwrite=overwrite, on_error=on_error.value,
    )  # fmt: skip


def triangulate(
    sfm: Annotated[Path, typer.Argument(help="Folder to build the model in.")],
    reference: Annotated[Path, typer.Argument(help="COLMAP model with the cameras and poses.")],
    images: Annotated[Path, typer.Argument(help="Folder of photos.")],
    pairs: Pairs,
    features: Features,
    matches: Matches,
    engine: EngineOption = Engine.auto,
    verify: Annotated[
        Verify,
        typer.Option(help="Believe matches that agree with the poses, with an estimate, or all."),
    ] = Verify.poses,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show COLMAP's output.")] = False,
) -> None:
    """Triangulate features in a model whose cameras and poses are known."""
    from disk_hloc.stages import triangulate as stage

    stage.main(
        sfm, reference, images, pairs, features, matches,
        engine=engine.value, verify=verify.value, verbose=verbose,
    )  # fmt: skip


def localize(
    reference: Annotated[Path, typer.Argument(help="COLMAP model of these features.")],
    queries: Annotated[
        Path,
        typer.Argument(help='"name MODEL width height parameters..." a line; or a quoted pattern.'),
    ],
    retrieval: Annotated[
        Path, typer.Argument(help="Pairs file: a query and a retrieved image a line (.txt).")
    ],
    features: Features,
    matches: Matches,
    results: Annotated[Path, typer.Argument(help="File of poses to write (.txt).")],
    engine: EngineOption = Engine.auto,
    max_error: Annotated[float, typer.Option(help="Of an inlier, in pixels.")] = 12.0,
    covisibility_clustering: Annotated[
        bool,
        typer.Option(
            "--covisibility-clustering",
            help="Localize with each group of retrieved images that share points.",
        ),
    ] = False,
    prepend_camera_name: Annotated[
        bool,
        typer.Option("--prepend-camera-name", help="Write camera/name (RobotCar, CMU)."),
    ] = False,
    ground_truth: Annotated[
        Path | None,
        typer.Option(help='Known poses, "name qw qx qy qz tx ty tz": print recall and errors.'),
    ] = None,
) -> None:
    """Localize queries in a model.

    RESULTS gets "name qw qx qy qz tx ty tz" a query, RESULTS_logs.json what led to it.
    """
    from disk_hloc.eval import localization
    from disk_hloc.io.hloc.poses import read_poses
    from disk_hloc.stages import localize as stage

    truth = read_poses(ground_truth) if ground_truth else None
    found = stage.main(
        reference, queries, retrieval, features, matches, results,
        engine=engine.value, max_error=max_error,
        covisibility_clustering=covisibility_clustering, prepend_camera_name=prepend_camera_name,
    )  # fmt: skip
    if truth is not None:
        typer.echo(localization.text(localization.evaluate(found, truth)))


Dataset = Annotated[Path, typer.Option(help="The data set's folder.")]
Outputs = Annotated[Path, typer.Option(help="Folder for all that is made.")]
Extractor = Annotated[str | None, typer.Option(help="Extractor conf; else the yaml's.")]
Matcher = Annotated[str | None, typer.Option(help="Matcher conf; else the yaml's.")]
Retrieval = Annotated[
    str | None,
    typer.Option(help="disk-vlad, netvlad (through hloc), or a pairs file."),
]
NumCovis = Annotated[int | None, typer.Option(help="Pairs an image for the model (20).")]
NumLoc = Annotated[int | None, typer.Option(help="Retrieved images a query (50).")]
GroundTruth = Annotated[
    Path | None, typer.Option(help="Known poses of the queries: print recall and errors.")
]


def _aachen(conf: str, description: str) -> Callable[..., None]:
    """The command of a version of Aachen."""

    def command(
        dataset: Dataset,
        outputs: Outputs,
        extractor: Extractor = None,
        matcher: Matcher = None,
        retrieval: Retrieval = None,
        num_covis: NumCovis = None,
        num_loc: NumLoc = None,
        engine: EngineOption = Engine.auto,
        ground_truth: GroundTruth = None,
        on_error: OnErrorOption = OnError.skip,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew.")] = False,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
        dask: Dask = None,
        masks: dict[str, Any] | None = None,
    ) -> None:
        from disk_hloc.eval import localization
        from disk_hloc.pipelines import aachen as pipeline

        summary = pipeline.main(
            dataset, outputs, conf=conf, extractor=extractor, matcher=matcher, retrieval=retrieval,
            num_covis=num_covis, num_loc=num_loc, engine=engine.value, masks=masks,
            ground_truth=ground_truth, overwrite=overwrite, device=device,
            on_error=on_error.value, dask=dask,
        )  # fmt: skip
        errors = summary.pop("errors", None)
        typer.echo(json.dumps(summary, indent=2))
        if errors is not None:
            typer.echo(localization.text(errors))
        if summary["unreadable"]:
            raise SkippedImages(skipped(summary["unreadable"]))

    command.__doc__ = f"{description} Defaults are in configs/{conf}.yaml."
    return mask_options(command)


for _conf, _description in (
    ("aachen", "Aachen Day-Night v1, from its NVM model."),
    ("aachen_v1_1", "Aachen Day-Night v1.1."),
):
    pipeline_app.command(_conf)(_aachen(_conf, _description))
