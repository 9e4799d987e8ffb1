"""The commands convert, demo and doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc import choices

from . import options
from .mask_options import mask_options


def convert(
    from_: Annotated[
        choices.Format, typer.Argument(metavar="FROM", help="Format to read: release, imc or hloc.")
    ],
    to: Annotated[
        choices.Format, typer.Argument(metavar="TO", help="Format to write: release, imc or hloc.")
    ],
    source: Annotated[Path, typer.Argument(help="Folder of the files to convert.")],
    out: Annotated[Path, typer.Argument(help="Folder for the converted files.")],
    images: options.ImageFolder = None,
    features: Annotated[
        str, typer.Option(help="Name of hloc's features file in SOURCE or OUT.")
    ] = "features.h5",
    matches: Annotated[
        str, typer.Option(help="Name of hloc's matches file in SOURCE or OUT.")
    ] = "matches.h5",
    release_origin: options.ReleaseOrigin = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Convert features and matches between DISK's release, the Image Matching Challenge and hloc.

    disk-hloc convert release hloc H5_DIR OUT --images PHOTOS

    hloc's image names have extensions, which the other formats do not store: to write hloc's
    files, give the photos with --images.
    """
    from disk_hloc import convert as conversion

    conversion.main(
        from_, to, source, out, image_dir=images, features=features, matches=matches,
        release_origin=release_origin, overwrite=overwrite,
    )  # fmt: skip


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the scene and its models.")] = Path(
        "demo"
    ),
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Render a room with a moving object, and reconstruct it with and without masks of the object.

    OUT gets the scene, both models, demo.png and with_masks/report.html, a page about the model.
    Needs scikit-image.
    """
    from disk_hloc.pipelines import demo as pipeline
    from disk_hloc.report import tables

    report = pipeline.main(out, overwrite=overwrite, device=device)
    for title, figures in report.items():
        shown = {name: value for name, value in figures.items() if name != "unreadable"}
        typer.echo(f"{title.capitalize()}\n{tables.key_values(shown)}")


def doctor(
    as_json: options.AsJson = False,
) -> None:
    """Show what is installed, which hloc and weights were found, and whether they work together.

    The exit code is 1 if there is a problem.
    """
    from disk_hloc.report import installation

    report = installation.main()
    typer.echo(json.dumps(report, indent=2) if as_json else installation.text(report))
    if report["problems"]:
        raise typer.Exit(1)


@mask_options
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="OUT of disk-hloc reconstruct, a map, or the folder of a COLMAP model.",
        ),
    ],
    target: Annotated[
        choices.ExportTarget,
        typer.Argument(
            metavar="TARGET", help=f"What to write: {', '.join(choices.EXPORT_TARGETS)}."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write; a former export is replaced.")
    ],
    images: options.ImageFolder = None,
    masks: dict[str, Any] | None = None,
) -> None:
    """Export a model for another program.

    --images and masks are for what has pictures: undistorted (for COLMAP's dense stereo),
    nerfstudio and gaussian-splatting. docs/export.md says what each target writes.
    """
    from disk_hloc import export as exporting

    exporting.main(source, target, output, images=images, masks=masks)
