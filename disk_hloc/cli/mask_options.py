"""The mask options of the command line: the same on every command that takes masks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from disk_hloc.errors import DiskHlocError


class Missing(str, Enum):
    """What to do with an image that has no mask."""

    keep = "keep"
    error = "error"


def mask_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the mask options; it gets them as one conf, ``masks`` (None without any)."""
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
        typer.Option(help="Folder of masks, COLMAP's: a/b.jpg.png (or a/b.png) for a/b.jpg."),
    ] = None,
    mask_file: Annotated[
        Path | None, typer.Option(help="One mask for all photos (an eyepiece, a car's hood).")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="White is ignored, not black (detectors' masks).")
    ] = False,
    ignore_labels: Annotated[
        str | None, typer.Option(help="The masks hold ids; ignore these: 11,12.")
    ] = None,
    coco: Annotated[
        Path | None, typer.Option(help="COCO-format annotations or results; their objects go.")
    ] = None,
    ignore_classes: Annotated[
        str | None, typer.Option(help="Of --coco only these, names or ids: person,car.")
    ] = None,
    min_score: Annotated[float, typer.Option(help="Of --coco only objects this certain.")] = 0.0,
    dilate: Annotated[int, typer.Option(help="Grow the ignored region by so many pixels.")] = 0,
    missing: Annotated[
        Missing, typer.Option(help="An image without a mask: keep all of it, or stop.")
    ] = Missing.keep,
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
        "missing": missing.value,
    }


def _numbers(listed: str | None) -> list[int] | None:
    if listed is None:
        return None
    try:
        return [int(number) for number in listed.split(",")]
    except ValueError as error:
        raise DiskHlocError(f"{listed!r} is no list of numbers like 11,12") from error
