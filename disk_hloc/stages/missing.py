"""Why a photo is in no model, or not in the largest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pycolmap

from disk_hloc.io import colmap

from .mapping import MIN_NUM_MATCHES


def reasons(
    names: Iterable[str],
    models: Sequence[pycolmap.Reconstruction],
    database_path: Path,
    unreadable: Mapping[str, str],
) -> dict[str, str]:
    """Return photo -> why it is not in the largest model, and what to do about it.

    Args:
        names: the photos.
        models: all models, the largest first.
        database_path: their database.
        unreadable: photo -> why it cannot be read.
    """
    model_of = colmap.model_of_photos(models)
    keypoints, matched, verified = colmap.read_counts(database_path, MIN_NUM_MATCHES)
    found = {}
    for name in names:
        if name in unreadable:
            found[name] = f"cannot be read: {unreadable[name]}"
        elif name not in model_of:
            found[name] = _reason(
                keypoints.get(name, 0), matched.get(name, 0), verified.get(name, 0)
            )
        elif model_of[name] > 0:
            size = len(colmap.seeing_points(models[model_of[name]]))
            found[name] = (
                f"in another model, {model_of[name]}/, of {size} photos: to join them, add photos "
                "between the two places, or pairs"
            )
    return found


def _reason(keypoints: int, matched: int, verified: int) -> str:
    if keypoints == 0:
        return "no keypoints: a blank, blurred or wholly masked photo"
    if matched == 0:
        return "matched with no other photo: add pairs (--pairs), or photos that overlap with it"
    if verified == 0:
        return (
            f"agrees geometrically with none of {matched} photos: add photos that overlap with it"
        )
    return (
        f"{verified} verified pairs, but too few points in common with the model: add photos "
        "between it and the others"
    )
