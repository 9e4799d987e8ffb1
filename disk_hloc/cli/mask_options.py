"""The mask options of the command line: the same in every command that takes masks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc.choices import MissingMask
from disk_hloc.errors import DiskHlocError

from .options import MASKS


def mask_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the mask options to a command, which gets them as one conf ``masks``.

    The conf has the keys of :data:`disk_hloc.io.masks.DEFAULT_CONF`; it is None if no masks are
    given.
    """
    own = inspect.signature(command, eval_str=True)
    theirs = inspect.signature(_masks, eval_str=True).parameters.values()

    @functools.wraps(command)
    def with_masks(*args: Any, **kwargs: Any) -> None:
        given = {option.name: kwargs.pop(option.name) for option in theirs}
        command(*args, masks=_masks(**given), **kwargs)

    parameters = [option for option in own.parameters.values() if option.name != "masks"]
    with_masks.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in [*parameters, *theirs]
        ]
    )
    return with_masks


def _masks(
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of masks, in COLMAP's convention: a/b.jpg.png (or a/b.png) for the photo "
            "a/b.jpg. Keypoints on black pixels are ignored.",
            rich_help_panel=MASKS,
        ),
    ] = None,
    mask_file: Annotated[
        Path | None,
        typer.Option(
            help="One mask for all photos, such as for a car's hood or an eyepiece.",
            rich_help_panel=MASKS,
        ),
    ] = None,
    invert: Annotated[
        bool,
        typer.Option(
            "--invert",
            help="Ignore white pixels instead of black ones, as in masks of object detectors.",
            rich_help_panel=MASKS,
        ),
    ] = False,
    ignore_labels: Annotated[
        str | None,
        typer.Option(
            help="The masks are label maps: ignore pixels with these labels, such as 11,12.",
            rich_help_panel=MASKS,
        ),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            help="COCO file of annotations or detections: ignore the objects in it.",
            rich_help_panel=MASKS,
        ),
    ] = None,
    ignore_classes: Annotated[
        str | None,
        typer.Option(
            help="Ignore only objects of these classes of --coco, by name or id, such as "
            "person,car.",
            rich_help_panel=MASKS,
        ),
    ] = None,
    min_score: Annotated[
        float,
        typer.Option(
            help="Ignore only objects of --coco with at least this score, from 0 to 1.",
            rich_help_panel=MASKS,
        ),
    ] = 0.0,
    dilate: Annotated[
        int,
        typer.Option(help="Grow the ignored regions by this many pixels.", rich_help_panel=MASKS),
    ] = 0,
    missing: Annotated[
        MissingMask,
        typer.Option(
            help="If a photo has no mask: keep all of its keypoints, or stop with an error.",
            rich_help_panel=MASKS,
        ),
    ] = "keep",
) -> dict[str, Any] | None:
    if masks is None and mask_file is None and coco is None:
        if invert or ignore_labels or ignore_classes or min_score or dilate:
            raise DiskHlocError("mask options without masks: give --masks, --mask-file or --coco")
        return None
    return {
        "folder": masks,
        "file": mask_file,
        "invert": invert,
        "ignore_labels": _numbers(ignore_labels),
        "coco": coco,
        "ignore_classes": ignore_classes.split(",") if ignore_classes else None,
        "min_score": min_score,
        "dilate": dilate,
        "missing": missing,
    }


def _numbers(listed: str | None) -> list[int] | None:
    if listed is None:
        return None
    try:
        return [int(number) for number in listed.split(",")]
    except ValueError as error:
        raise DiskHlocError(f"expected numbers such as 11,12, not {listed!r}") from error
