"""The command ``disk-hloc``: one command a stage. It parses and calls, and says what went wrong."""

from __future__ import annotations

import json
import sys
import traceback
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from disk_hloc import __version__
from disk_hloc.errors import (
    DESCRIPTIONS,
    DiskHlocError,
    Exit,
    SkippedImages,
    UnreadableImages,
    of_the_machine,
    skipped,
)
from disk_hloc.log import logger, show_logs
from disk_hloc.plugin import find_conf

from .dataset import dataset_app
from .evaluation import eval_app
from .finetune import finetune
from .localization import (
    Dask,
    Engine,
    EngineOption,
    describe,
    localize,
    pairs_app,
    pipeline_app,
    triangulate,
)
from .mask_options import mask_options
from .options import OnError, OnErrorOption
from .release import app as release_app
from .training import train, train_auc

# The stages are imported in the commands, so that --help does not wait for torch.

app = typer.Typer(
    help="DISK local features for 3D reconstruction and visual localization.",
    epilog="Exit codes: "
    + "; ".join(f"{code.value} {words}" for code, words in DESCRIPTIONS.items())
    + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(pairs_app, name="pairs")
app.add_typer(pipeline_app, name="pipeline")
app.add_typer(eval_app, name="eval")
app.add_typer(dataset_app, name="dataset")
app.command()(describe)
app.command()(triangulate)
app.command()(localize)
app.command()(finetune)
app.command()(train)
app.command()(train_auc)
app.add_typer(release_app, name="release")


class Format(str, Enum):
    """Whose files are converted."""

    release = "release"
    imc = "imc"
    hloc = "hloc"


class CameraMode(str, Enum):
    """Which images share a camera."""

    auto = "auto"
    single = "single"
    per_folder = "per-folder"
    per_image = "per-image"


class Mapper(str, Enum):
    """How COLMAP builds the model."""

    incremental = "incremental"
    global_ = "global"


Images = Annotated[Path, typer.Argument(help="Folder of photos, at any depth.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew instead of resuming.")]
Preview = Annotated[
    Path | None,
    typer.Option(
        help="Folder for pictures of the photos, keypoints and masks.", show_default=False
    ),
]
ExtractorHelp = "Extractor: disk, disk-2k, disk-epipolar, one of hloc's, or a .yaml file."
MatcherHelp = "Matcher: disk, disk-ratio, disk+lightglue, one of hloc's, or a .yaml file."


@app.command()
@mask_options
def extract(
    images: Images,
    features: Annotated[Path, typer.Argument(help="Features file to make or resume (.h5).")],
    conf: Annotated[str, typer.Option(help=ExtractorHelp)] = "disk",
    image_list: Annotated[
        Path | None, typer.Option(help="File of image names, one a line; else all photos.")
    ] = None,
    preview: Preview = None,
    on_error: OnErrorOption = OnError.skip,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dask: Dask = None,
    masks: dict[str, Any] | None = None,
) -> None:
    """Extract features from photos. Run again to resume.

    Photos are taken as they are stored: a rotation in their EXIF data is not applied, as by hloc
    and COLMAP. One of more than 2^29 pixels is skipped: DISK_HLOC_MAX_PIXELS says otherwise.
    """
    from disk_hloc.parallel import shards

    found = find_conf("extractors", conf)
    unreadable = None
    try:
        shards.extract(
            found,
            images,
            features,
            dask=dask,
            image_list=image_list,
            masks=masks,
            overwrite=overwrite,
            device=device,
            on_error=on_error.value,
        )
    except UnreadableImages as error:
        unreadable = error
    _preview(preview, masks, images, features)
    if unreadable:
        raise unreadable


@app.command()
def match(
    features: Annotated[Path, typer.Argument(help="Features file (.h5).")],
    pairs: Annotated[Path, typer.Argument(help="Pairs file: two image names a line (.txt).")],
    matches: Annotated[Path, typer.Argument(help="Matches file to make or resume (.h5).")],
    conf: Annotated[str, typer.Option(help=MatcherHelp)] = "disk",
    reference: Annotated[
        Path | None, typer.Option(help="Features of the pairs' second images, if in another file.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dask: Dask = None,
) -> None:
    """Match the features of pairs of images. Run again to resume."""
    from disk_hloc.parallel import shards

    found = find_conf("matchers", conf)
    shards.match(
        found, pairs, features, matches,
        dask=dask, reference_path=reference, overwrite=overwrite, device=device,
    )  # fmt: skip


@app.command()
@mask_options
def mask(
    first: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="Features file (.h5); not with --matches.")
    ],
    second: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="File to write (.h5).", show_default=False)
    ] = None,
    matches: Annotated[
        Path | None, typer.Option(help="Mask this matches file instead; indices stay.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="With --matches: the features that it refers to.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The photos: for --preview, or if FEATURES lacks sizes.")
    ] = None,
    preview: Preview = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    masks: dict[str, Any] | None = None,
) -> None:
    """Drop masked keypoints from any hloc features file, or matches at them.

    disk-hloc mask FEATURES.h5 OUT.h5 --masks DIR

    disk-hloc mask --matches MATCHES.h5 --features FEATURES.h5 OUT.h5 --masks DIR
    """
    from disk_hloc.stages import mask as stage

    if masks is None:
        raise DiskHlocError("nothing to mask with: give --masks, --mask-file or --coco")
    source, out = (features or first, second) if matches is None else (features, first)
    if source is None or out is None or (matches is not None and second is not None):
        raise DiskHlocError(
            "give FEATURES and OUT, or --matches MATCHES --features FEATURES and OUT"
        )
    if preview is not None and images is None:
        raise DiskHlocError("--preview draws on the photos: give them with --images")
    stage.main(masks, source, out, match_path=matches, image_dir=images, overwrite=overwrite)
    if images is not None:
        _preview(preview, masks, images, source)


@app.command()
@mask_options
def reconstruct(
    images: Images,
    out: Annotated[Path, typer.Argument(help="Folder for features, matches and the model.")],
    extractor: Annotated[str, typer.Option(help=ExtractorHelp)] = "disk",
    matcher: Annotated[str, typer.Option(help=MatcherHelp)] = "disk",
    pairs: Annotated[str, typer.Option(help="exhaustive, or a pairs file.")] = "exhaustive",
    from_database: Annotated[
        Path | None,
        typer.Option(help="Verify and map this COLMAP database; nothing is extracted."),
    ] = None,
    engine: EngineOption = Engine.auto,
    camera_mode: Annotated[
        CameraMode, typer.Option(help="Which photos share a camera; auto goes by EXIF.")
    ] = CameraMode.auto,
    camera: Annotated[
        str | None,
        typer.Option(help='COLMAP model and parameters in pixels: "PINHOLE fx,fy,cx,cy".'),
    ] = None,
    fix_intrinsics: Annotated[
        bool, typer.Option("--fix-intrinsics", help="Keep the camera's parameters as given.")
    ] = False,
    mapper: Annotated[Mapper, typer.Option(help="COLMAP's mapper.")] = Mapper.incremental,
    robust: Annotated[
        bool, typer.Option(help="Adjust the model once more, with a robust loss.")
    ] = True,
    preview: Preview = None,
    on_error: OnErrorOption = OnError.skip,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dask: Dask = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show COLMAP's output.")] = False,
    masks: dict[str, Any] | None = None,
) -> None:
    """Build a COLMAP model from a folder of photos.

    OUT gets features.h5, pairs.txt, matches.h5, sfm/ (the model and its database.db) and
    summary.json. Run again to resume.
    """
    from disk_hloc.pipelines import sfm

    if from_database is not None:
        given = (
            masks, preview, overwrite, camera, dask, extractor, matcher, pairs, camera_mode, engine
        )  # fmt: skip
        if given != (None, None, False, None, None, "disk", "disk", "exhaustive", "auto", "auto"):
            raise DiskHlocError(
                "--from-database takes features, matches and cameras from the database: only "
                "--fix-intrinsics, --mapper, --no-robust and --verbose go with it"
            )
        typer.echo(
            _table(
                sfm.from_database(
                    from_database,
                    images,
                    out,
                    fix_intrinsics=fix_intrinsics,
                    mapper=mapper.value,
                    robust=robust,
                    verbose=verbose,
                )
            )
        )
        return
    summary = sfm.main(
        images,
        out,
        extractor=extractor,
        matcher=matcher,
        pairs_from=pairs,
        masks=masks,
        overwrite=overwrite,
        device=device,
        on_error=on_error.value,
        dask=dask,
        engine=engine.value,
        camera_mode=camera_mode.value,
        camera=camera,
        fix_intrinsics=fix_intrinsics,
        mapper=mapper.value,
        robust=robust,
        verbose=verbose,
    )
    _preview(preview, masks, images, out / "features.h5")
    typer.echo(_table(summary))
    if summary["unreadable"]:
        raise SkippedImages(skipped(summary["unreadable"]))


@app.command()
def convert(
    from_: Annotated[Format, typer.Argument(metavar="FROM", help="release, imc or hloc.")],
    to: Annotated[Format, typer.Argument(metavar="TO", help="Likewise.")],
    source: Annotated[Path, typer.Argument(help="Folder of the files to convert.")],
    out: Annotated[Path, typer.Argument(help="Folder for the converted files.")],
    images: Annotated[
        Path | None, typer.Option(help="The photos; for hloc, whose names have an extension.")
    ] = None,
    features: Annotated[str, typer.Option(help="hloc's features file.")] = "features.h5",
    matches: Annotated[str, typer.Option(help="hloc's matches file.")] = "matches.h5",
    release_origin: Annotated[
        bool, typer.Option("--release-origin", help="Leave keypoints where the release has them.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files in OUT.")] = False,
) -> None:
    """Convert features and matches: DISK's release, the Image Matching Challenge, hloc.

    disk-hloc convert release hloc H5_DIR OUT --images PHOTOS
    """
    from disk_hloc import convert as conversion

    conversion.main(
        from_.value,
        to.value,
        source,
        out,
        image_dir=images,
        features=features,
        matches=matches,
        release_origin=release_origin,
        overwrite=overwrite,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the scene and its model.")] = Path("demo"),
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Draw a room in which something moves; reconstruct it, with masks of that and without.

    OUT gets the scene, both models and demo.png.
    """
    from disk_hloc.pipelines import demo as pipeline

    report = pipeline.main(out, overwrite=overwrite, device=device)
    for title, figures in report.items():
        typer.echo(f"{title.capitalize()}\n{_table(figures)}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed, which hloc and weights were found, and whether they work together."""
    from disk_hloc.report import installation as diagnosis

    report = diagnosis.main()
    typer.echo(json.dumps(report, indent=2) if as_json else diagnosis.text(report))
    if report["problems"]:
        raise typer.Exit(1)


@app.command()
def compare(
    images: Images,
    out: Annotated[Path, typer.Argument(help="Folder for results, features and models.")],
    rows: Annotated[
        str,
        typer.Option(help="Rows of configs/compare.yaml, or extractor/matcher; commas between."),
    ] = "disk,disk-ratio,disk+lightglue,aliked+lightglue,sift",
    pairs: Annotated[str, typer.Option(help="exhaustive, or a pairs file.")] = "exhaustive",
    max_keypoints: Annotated[
        int | None,
        typer.Option(min=1, help="Of a photo, for all rows; else each extractor's own."),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(help="Known poses: a poses file, or a folder of calibration_*.h5."),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(help='Of all photos, kept as it is: "PINHOLE fx,fy,cx,cy".'),
    ] = None,
    camera_mode: Annotated[
        CameraMode, typer.Option(help="Which photos share a camera; auto goes by EXIF.")
    ] = CameraMode.auto,
    engine: Annotated[Engine, typer.Option(help="Whose code builds the models.")] = Engine.auto,
    mapper: Annotated[Mapper, typer.Option(help="COLMAP's mapper.")] = Mapper.incremental,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run the rows anew.")] = False,
    device: Device = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", help="Show COLMAP's output.")] = False,
) -> None:
    """Compare features and matchers on the same photos, pairs, cameras and mapper.

    OUT gets results.md, results.json and matches.png. Run again to resume, or to add rows.
    """
    from disk_hloc.eval import comparison
    from disk_hloc.pipelines import compare as pipeline

    results = pipeline.main(
        images,
        out,
        rows=[row.strip() for row in rows.split(",") if row.strip()],
        pairs_from=pairs,
        max_keypoints=max_keypoints,
        poses=poses,
        camera=camera,
        camera_mode=camera_mode.value,
        engine=engine.value,
        mapper=mapper.value,
        overwrite=overwrite,
        device=device,
        verbose=verbose,
    )
    typer.echo(comparison.table(results["rows"]))


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """DISK local features for 3D reconstruction and visual localization."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command; errors that the user can mend become one line, and an exit code."""
    show_logs()
    try:
        app()
    except DiskHlocError as error:
        _end(str(error), error.exit_code)
    except SystemExit as end:
        if end.code == Exit.INTERRUPTED:  # Typer's for Ctrl-C
            logger.warning("Interrupted. What is done is kept: the same command goes on from here.")
        raise
    except Exception as error:  # noqa: BLE001 - what is left is told from a bug here
        reason = of_the_machine(error)
        if reason is not None:
            _end(reason, Exit.ERROR)
        traceback.print_exc()
        _end(f"a bug of disk_hloc {__version__}: please report it with the lines above", Exit.BUG)


def _end(message: str, code: Exit) -> NoReturn:
    """End with one line. What a name may have in it, be it a line's end, is written out."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    typer.echo(f"Error: {shown}", err=True)
    sys.exit(code)


def _preview(
    folder: Path | None, masks: dict[str, Any] | None, images: Path, features: Path
) -> None:
    if folder is None:
        return
    from disk_hloc.report import pictures as draw

    draw.mask_previews(folder, images, features, masks)


def _table(figures: dict[str, Any]) -> str:
    rows = []
    for name, value in figures.items():
        if name == "unreadable":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in value.items())
        rows.append((name.replace("_", " "), str(value)))
    width = max(len(name) for name, _ in rows)
    rule = "-" * min(width + 2 + max(len(value) for _, value in rows), 100)
    return "\n".join([rule, *(f"{name:{width}}  {value}" for name, value in rows), rule])


if __name__ == "__main__":
    main()
