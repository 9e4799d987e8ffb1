"""The commands of evaluation: ``disk-hloc eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

eval_app = typer.Typer(
    help="Evaluate features, matches and models against what is known.", no_args_is_help=True
)

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
    from .eval import report
    from .pipelines import hpatches as pipeline

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
    from .eval import homographies

    homographies.main(images, folder, size=size, seed=seed, limit=limit)
