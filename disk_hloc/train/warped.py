"""Tuples of views of one photo under random homographies, so that any photos can be trained on.

The homography of a view takes the place of its intrinsics; all views are at one place, and depth is
1 everywhere. :func:`.geometry.transfer` then is the homography between two views, and everything
that is judged by depth works. There is no epipolar geometry. Files of cameras cannot hold such a
camera: the views only exist in memory.

What a tuple looks like depends on the seed of the run and the number of the tuple alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import ImageReadError, read_image, resize_image

from .data import Batch
from .geometry import View
from .homographies import random_warp
from .photometric import photometric_noise


class Warped(NamedTuple):
    """A tuple to draw: the index of its photo, and the seeds of its random numbers."""

    photo: int
    seeds: tuple[int, ...]


def describe_photos(folder: Path, names: Sequence[str]) -> str:
    """Return a line that is another for other photos, by their names and the sizes of their files.

    Raises:
        DiskHlocError: a photo is missing.
    """
    try:
        files = [(name, (folder / name).stat().st_size) for name in names]
    except OSError as error:
        raise DiskHlocError(f"{error.filename} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]
    return f"{len(names)} photos under homographies (digest {digest})"


def warped_batches(
    count: int,
    batch_size: int,
    seed: int,
    *,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[list[Warped]]:
    """Yield batches endlessly; a larger ``start`` skips the first ones and changes no others.

    All photos are used once in random order, then all again in another one.

    Args:
        count: number of photos.
        batch_size: number of tuples in a batch on one device.
        seed: of the run.
        start: number of the first batch.
        rank, world_size: index of this device and number of devices.
    """
    number, order, in_order = start, -1, np.zeros(0, int)
    while True:
        batch = []
        for i in range(batch_size):
            at = (number * world_size + rank) * batch_size + i
            if at // count != order:
                order = at // count
                in_order = np.random.default_rng([seed, order]).permutation(count)
            batch.append(Warped(int(in_order[at % count]), (seed, order, at)))
        yield batch
        number += 1


def fixed_tuples(count: int, limit: int, batch_size: int, seed: int) -> list[list[Warped]]:
    """Return batches to validate on, which stay the same.

    Args:
        count: number of photos.
        limit: maximum number of tuples.
        batch_size: number of tuples in a batch.
        seed: of the run.
    """
    photos = np.random.default_rng([seed, 0]).permutation(count)[:limit]
    # One seed more than in training, so that no view is the same.
    tuples = [Warped(int(photo), (seed, 0, int(photo), 1)) for photo in photos]
    return [tuples[i : i + batch_size] for i in range(0, len(tuples), batch_size)]


def load_warped(
    folder: Path,
    names: Sequence[str],
    tuples: Sequence[Warped],
    *,
    size: tuple[int, int],
    interpolation: str,
    conf: Mapping[str, Any],
) -> Batch:
    """Read photos, and warp them.

    A random part of the photo with the shape of ``size`` is taken, as large as possible, and warped
    ``views`` times, from the left and from the right in turn.

    Args:
        folder: the photos.
        names: their names.
        tuples: the tuples to draw.
        size: width and height of a view in pixels.
        interpolation: of the photo, see :func:`disk_hloc.io.images.resize_image`.
        conf: the settings' ``warp``.

    Raises:
        DiskHlocError: a photo cannot be read.
    """
    images, views, shown = [], [], []
    for one in tuples:
        rng = np.random.default_rng(one.seeds)
        path = folder / names[one.photo]
        try:
            photo = read_image(path)
        except ImageReadError as error:
            raise DiskHlocError(f"{path} cannot be read: {error}; fix or remove it") from error
        part = _random_part(photo, size, interpolation, rng)
        of_tuple = []
        for number in range(conf["views"]):
            homography = random_warp(
                size, rng, zoom=conf["zoom"], rotation=conf["rotation"],
                perspective=conf["perspective"], left=number % 2 == 0,
            )  # fmt: skip
            image = cv2.warpPerspective(
                part, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            if conf["noise"]:
                image = photometric_noise(image, rng)
            images.append(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
            of_tuple.append(view_of(homography, size))
        views.append(of_tuple)
        shown.append([names[one.photo]] * conf["views"])
    return Batch(torch.stack(images), views, [[size] * len(one) for one in views], shown)


def view_of(homography: np.ndarray, size: tuple[int, int]) -> View:
    """Return the camera of a photo under a homography.

    Args:
        homography: (3, 3) warped_from_photo.
        size: width and height in pixels.
    """
    return View(
        torch.from_numpy(homography),
        torch.eye(3, dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
        torch.ones(size[1], size[0]),
    )


def _random_part(
    photo: np.ndarray, size: tuple[int, int], interpolation: str, rng: np.random.Generator
) -> np.ndarray:
    """Resize a photo to cover a size, and cut a part of that size out of it, uint8."""
    height, width = photo.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    whole = (max(size[0], round(width * scale)), max(size[1], round(height * scale)))
    # A photo that is made smaller needs the mean of its pixels.
    chosen = "cv2_area" if scale < 1 else interpolation
    resized = resize_image(photo.astype(np.float32), whole, chosen)
    left, top = (int(rng.integers(whole[k] - size[k] + 1)) for k in (0, 1))
    part = resized[top : top + size[1], left : left + size[0]]
    return np.ascontiguousarray(np.clip(np.rint(part), 0, 255).astype(np.uint8))
