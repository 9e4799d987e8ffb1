"""Options and arguments that several commands share, each declared once.

A declaration has one help text wherever it is used; a command adds its default, and its docstring
says what is special there.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from disk_hloc import choices

# Help panels of options.
MASKS = "Masks"
MODEL = "Cameras and model"
RUN = "Running"

# Confs.
Conf = Annotated[
    str, typer.Option(help="Configuration: a name (see above), or a .yaml file of your own.")
]
_EXTRACTOR = typer.Option(
    help="Extractor configuration: disk, disk-2k, aliked, sift or another name in "
    "configs/extractors.yaml, one of hloc's, or a .yaml file. reconstruct and eval eth also mix "
    "several: disk+sift."
)
_MATCHER_HELP = (
    "Matcher configuration: disk, disk-ratio, disk+lightglue or another name in "
    "configs/matchers.yaml, one of hloc's, or a .yaml file. For mixed extractors, one for each: "
    "disk+lightglue,sift-ratio."
)
_MATCHER = typer.Option(help=_MATCHER_HELP)
Extractor = Annotated[str, _EXTRACTOR]
OptionalExtractor = Annotated[str | None, _EXTRACTOR]
Matcher = Annotated[str, _MATCHER]
OptionalMatcher = Annotated[str | None, _MATCHER]
SuitableMatcher = Annotated[
    str | None, typer.Option(help=_MATCHER_HELP, show_default="each extractor's own")
]

# Inputs.
Images = Annotated[Path, typer.Argument(help="Folder of photos; subfolders are included.")]
Features = Annotated[Path, typer.Argument(help="Features file (.h5).")]
Matches = Annotated[Path, typer.Argument(help="Matches file (.h5).")]
Pairs = Annotated[Path, typer.Argument(help="Pairs file: two image names on each line (.txt).")]
Model = Annotated[Path, typer.Argument(help="Folder of a COLMAP model.")]
Map = Annotated[
    Path, typer.Argument(metavar="MAP", help="Folder of the map, of disk-hloc map build.")
]
NumMatched = Annotated[int, typer.Option(help="Largest number of images paired with each image.")]
PairsFrom = Annotated[
    str,
    typer.Option(
        "--pairs",
        help="Which photos to match: all pairs (exhaustive), those that look alike (retrieval), "
        "follow each other (sequential) or were taken nearby (spatial); or a pairs file. Several "
        "are joined with +. auto matches all pairs of a small folder, and chooses otherwise.",
    ),
]
NumCovis = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of covisible images matched with each database image.",
        show_default="20",
    ),
]
DescriptorsFile = Annotated[
    Path | None,
    typer.Option("--descriptors", help="Global descriptors (.h5), from disk-hloc describe."),
]
Turn = Annotated[
    choices.Turn,
    typer.Option(
        help="How photos are turned before their features are extracted: as their EXIF data say, "
        "corrected where neighbours show another way up (auto), as EXIF says (exif), as they are "
        "stored (none), or all by this many degrees counter-clockwise. Keypoints are in pixels of "
        "the stored photo all the same.",
    ),
]
FeaturesFile = Annotated[
    Path | None, typer.Option("--features", help="Existing features file (.h5) to use.")
]
MatchesFile = Annotated[
    Path | None, typer.Option("--matches", help="Existing matches file (.h5) to use.")
]
ImageFolder = Annotated[
    Path | None,
    typer.Option("--images", help="Folder of the photos of these features, or of this model."),
]
Poses = Annotated[
    Path | None,
    typer.Option(
        help='Known poses: a file with "name qw qx qy qz tx ty tz" on each line '
        "(cam_from_world), or a folder of calibration_*.h5 files."
    ),
]
GroundTruth = Annotated[
    Path | None,
    typer.Option(
        help='Known poses of the queries, "name qw qx qy qz tx ty tz" on each line: print recall '
        "and errors."
    ),
]

# How photos are localized.
MaxError = Annotated[
    float, typer.Option(help="Largest reprojection error of an inlier, in pixels.")
]
_MAX_KEYPOINTS_HELP = "Largest number of keypoints of a photo."
MaxKeypoints = Annotated[int, typer.Option(min=1, help=_MAX_KEYPOINTS_HELP)]
OptionalMaxKeypoints = Annotated[
    int | None,
    typer.Option(min=1, help=_MAX_KEYPOINTS_HELP, show_default="each extractor's own"),
]

# Outputs.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PairsOutput = Annotated[Path, typer.Argument(help="Pairs file to write (.txt).")]
Preview = Annotated[
    Path | None,
    typer.Option(help="Folder for pictures of the photos with their keypoints and masks."),
]

# Cameras and models.
Camera = Annotated[
    str | None,
    typer.Option(
        help="Camera that all photos share: COLMAP model and parameters in pixels, such as "
        '"PINHOLE fx,fy,cx,cy".',
        rich_help_panel=MODEL,
    ),
]
CameraMode = Annotated[
    choices.CameraMode,
    typer.Option(
        help="Which photos share a camera. auto decides by EXIF (camera, focal length, size), or "
        "takes one camera for all if --camera is given.",
        rich_help_panel=MODEL,
    ),
]
FixIntrinsics = Annotated[
    bool,
    typer.Option(
        "--fix-intrinsics",
        help="Keep the parameters of --camera, or of the database's cameras, as they are.",
        rich_help_panel=MODEL,
    ),
]
Robust = Annotated[
    bool,
    typer.Option(
        help="Adjust the finished model once more, with a robust loss. --mapper hierarchical "
        "always does.",
        rich_help_panel=MODEL,
    ),
]
Engine = Annotated[
    choices.Engine,
    typer.Option(
        help="Build models and localize with hloc's own modules (hloc) or with pycolmap directly "
        "(native). auto uses hloc if it works with the installed pycolmap, else native.",
        rich_help_panel=MODEL,
    ),
]
Mapper = Annotated[
    choices.Mapper,
    typer.Option(
        help="COLMAP's incremental mapper; the same in clusters that are mapped at once and then "
        "joined (hierarchical), for hundreds of photos and more; or COLMAP's global mapper, which "
        "needs pycolmap 4. auto is incremental up to 200 photos, then hierarchical.",
        rich_help_panel=MODEL,
    ),
]
Georeference = Annotated[
    bool,
    typer.Option(
        "--georeference",
        help="Write the model in metres, too: aligned to the GPS positions of the photos, x east, "
        "y north, z up.",
        rich_help_panel=MODEL,
    ),
]
Report = Annotated[bool, typer.Option(help="Write report.html, a page that opens offline.")]
Rescue = Annotated[
    bool,
    typer.Option(
        help="Try photos that the model lacks again with SIFT, and add them to it.",
        rich_help_panel=MODEL,
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show COLMAP's output.", rich_help_panel=RUN)
]

# How a command runs.
Device = Annotated[
    str,
    typer.Option(
        help="Device for networks: cpu, cuda, cuda:1, ... auto uses CUDA if there is a GPU.",
        rich_help_panel=RUN,
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        help="Extract and match with Dask workers: local:N (N processes on this machine), "
        "tcp://HOST:PORT (a running scheduler), or a .yaml file of batch jobs.",
        rich_help_panel=RUN,
    ),
]
OnError = Annotated[
    choices.OnError,
    typer.Option(
        help="What to do with an image that cannot be read: skip it and name it at the end, or "
        "stop there.",
        rich_help_panel=RUN,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace existing output and start from scratch.",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]

# Data sets for training.
Covisible = Annotated[
    tuple[float, float],
    typer.Option(
        "--covisible",
        help="Smallest and largest overlap of two images in a tuple: the fraction of what one "
        "image shows that the other one shows, too.",
    ),
]
TupleSize = Annotated[
    int, typer.Option("--tuple-size", min=2, help="Number of images in a training tuple.")
]
MaxTuples = Annotated[
    int,
    typer.Option(
        "--max-tuples", min=1, help="Largest number of tuples of a scene, chosen at random."
    ),
]

# DISK's release.
H5Dir = Annotated[
    Path,
    typer.Argument(help="Folder of keypoints.h5, descriptors.h5 and the release's other files."),
]
ReleaseImages = Annotated[Path, typer.Argument(help="Folder of the photos, without subfolders.")]
ImageExtension = Annotated[
    str, typer.Option(help="Extension of the photos, with or without a dot; case matters.")
]
ReleaseOrigin = Annotated[
    bool,
    typer.Option(
        "--release-origin",
        help="Keep keypoint coordinates as the release has them, half a pixel off.",
    ),
]


def given(ctx: typer.Context) -> dict[str, str]:
    """Return parameter -> how it is written, of those that are on the command line."""
    return {
        parameter.name: parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name is not None
        and getattr(ctx.get_parameter_source(parameter.name), "name", None) == "COMMANDLINE"
    }


def command_line() -> str:
    """Return the command as a shell takes it."""
    return shlex.join(["disk-hloc", *sys.argv[1:]])


def numbers(listed: str, option: str) -> list[float]:
    """Return the numbers of a list, separated by commas or white space.

    Raises:
        typer.BadParameter: a part is not a number, or the list is empty.
    """
    try:
        values = [float(part) for part in listed.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values:
        raise typer.BadParameter(f"expected numbers separated by commas, not {listed!r}: {option}")
    return values
