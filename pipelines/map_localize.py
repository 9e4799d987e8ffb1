"""Where photos were taken, asked of a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from disk_hloc import __version__
from disk_hloc.errors import DiskHlocError, require_on_error
from disk_hloc.io.images import ImageReadError, image_size
from disk_hloc.io.localizations import require_outputs, write_answers
from disk_hloc.io.masks import Masks, input_files, mask_folder
from disk_hloc.io.output_folder import mark
from disk_hloc.io.outputs import require_output_folder
from disk_hloc.io.query_photos import find_photos, known_cameras, require_given
from disk_hloc.io.rigs import read_rig
from disk_hloc.localizer import Localization, Localizer, RigLocalization
from disk_hloc.localizer.picture import draw

Each = Callable[[str, "Localization | DiskHlocError"], None]


@dataclass
class Found:
    """What :func:`main` found.

    Attributes:
        answers: name of a photo -> its answer, without correspondences.
        unreadable: name of a photo -> why it was left out.
        rig: of the rig, if one was asked for.
    """

    answers: dict[str, Localization] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    rig: RigLocalization | None = None


def main(
    folder: Path,
    photos: Sequence[Path],
    *,
    camera: str | None = None,
    queries: Path | None = None,
    rig: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    outputs: Sequence[Path] = (),
    picture: Path | None = None,
    images: Path | None = None,
    on_error: str = "skip",
    each: Each = lambda name, answer: None,
    **options: Any,
) -> Found:
    """Localize photos in a map.

    Args:
        folder: the map.
        photos: files and folders (:func:`disk_hloc.io.query_photos.find_photos`).
        camera: the intrinsics of all photos, ``"PINHOLE fx,fy,cx,cy"``.
        queries: hloc's list of queries with intrinsics; these are localized, and no other photos.
        rig: a rig (:func:`disk_hloc.io.rigs.read_rig`), whose photos are localized together.
        masks: where keypoints may be.
        outputs: files to write (:func:`disk_hloc.io.localizations.write_answers`).
        picture: a folder, which gets ``NAME.png`` of each photo.
        images: the map's photos, for pictures; without them, its thumbnails.
        on_error: ``skip`` a photo that cannot be read, or ``stop`` there.
        each: is called with each name and its answer, or the error that left it out.
        options: of :class:`disk_hloc.Localizer`.

    Returns:
        The answers.

    Raises:
        DiskHlocError: a file cannot be read or written, or a photo of a list or a rig is missing.
    """
    require_on_error(on_error)
    if rig is not None and (camera or queries):
        raise DiskHlocError("a rig has its own cameras: leave out those of photos")
    inputs = {
        "map": folder, "queries": queries, "rig": rig, **input_files(masks or {}),
        **{f"photo {i + 1}": path for i, path in enumerate(photos)},
    }  # fmt: skip
    if picture is not None:
        require_output_folder(picture, inputs)
    localizer = Localizer(folder, **options)
    require_outputs(outputs, localizer.frame is not None, inputs)
    named = find_photos(photos, [mask_folder(masks)])
    cameras = known_cameras(named, camera, queries)
    members = [] if rig is None else read_rig(rig)
    if rig is not None:
        require_given(named, [one.name for one in members], rig)
    sources = None if masks is None else Masks(masks)
    found = Found()

    def keep(name: str, answer: Localization) -> None:
        each(name, answer)
        if picture is not None:
            draw(picture / f"{name}.png", localizer, name, named[name], answer, images)
        # Of many photos they would fill the memory.
        found.answers[name] = replace(answer, correspondences=None)

    if picture is not None:
        mark(picture)
    if members:
        found.rig = localizer.localize_rig(
            [named[one.name] for one in members],
            [one.cam_from_rig for one in members],
            [one.camera for one in members],
            masks=[_mask(sources, one.name, named[one.name]) for one in members],
        )
        for one, answer in zip(members, found.rig.images, strict=True):
            keep(one.name, answer)
    else:
        shown = tqdm(cameras.items(), desc="Localize", unit="photo", disable=len(cameras) < 2)
        for name, known in shown:
            mask = _mask(sources, name, named[name])
            try:
                answer = localizer.localize(named[name], known, mask=mask)
            except DiskHlocError as error:
                if on_error == "stop":
                    raise
                found.unreadable[name] = str(error)
                each(name, error)
            else:
                keep(name, answer)
    if sources is not None:
        sources.log_missing(len(cameras))
    answers: dict[str, Any] = {name: one.to_json() for name, one in found.answers.items()}
    answers |= {name: {"error": reason} for name, reason in found.unreadable.items()}
    of_rig = {} if found.rig is None else {"rig": found.rig.to_json()}
    for path in outputs:
        write_answers(path, answers, {"disk_hloc": __version__, "map": str(folder), **of_rig})
    return found


def _mask(sources: Masks | None, name: str, path: Path) -> np.ndarray | None:
    """Return the mask of a photo; None for a photo that cannot be read, too."""
    if sources is None:
        return None
    try:
        return sources(name, image_size(path))
    except ImageReadError:
        return None
