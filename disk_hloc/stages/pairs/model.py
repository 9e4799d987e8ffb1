"""From images or a model to a pairs file: which images are matched with which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import scipy.sparse

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import angle_between
from disk_hloc.io.colmap import cam_from_world, read_model, registered_images, to_pose
from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.hloc.pairs import Pair, read_pairs, write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.io.outputs import require_output
from disk_hloc.log import logger


def main(method: str, source: Path, output: Path, **options: Any) -> Path:
    """Write the pairs to match.

    Args:
        method: ``exhaustive`` or ``sequential`` (of a folder of images, or a features file);
            ``covisibility`` or ``poses`` (of a COLMAP model).
        source: what the method chooses from.
        output: the pairs file.
        options: the options of the function with the method's name.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: an unknown method, nothing to pair, or a name with a tab or a line break.
    """
    if method not in METHODS:
        raise DiskHlocError(
            f"no method for pairs is called {method!r}; known: {', '.join(METHODS)}"
        )
    require_output(output, "text", {"source of the pairs": source})
    return METHODS[method](source, output, **options)


def exhaustive(names: Sequence[str], output: Path) -> Path:
    """Write the pairs of every image with every other.

    Raises:
        DiskHlocError: fewer than two images, or a name with a tab or a line break.
    """
    if len(names) < 2:
        raise DiskHlocError(
            f"a pair needs two images, but there is {names[0] if names else 'none'}"
        )
    return _write(output, list(combinations(names, 2)), len(names))


def sequential(source: Path, output: Path, *, overlap: int = 10, quadratic: bool = False) -> Path:
    """Write the pairs of every image with those that follow it, as for the frames of a video.

    Args:
        source: a folder of images or a features file, whose images are sorted by name.
        output: the pairs file.
        overlap: how many following images each image is paired with.
        quadratic: also pair it with those 2, 4, 8, ... 2^(overlap - 1) further on, as in COLMAP.

    Raises:
        DiskHlocError: fewer than two images, an overlap below 1, or a name with a tab or a line
            break.
    """
    if overlap < 1:
        raise DiskHlocError(f"the overlap is {overlap}, but must be at least 1")
    names = _names(source)
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {2**power for power in range(overlap)}
    pairs = [
        (name, names[i + step])
        for i, name in enumerate(names)
        for step in sorted(steps)
        if i + step < len(names)
    ]
    if not pairs:
        raise DiskHlocError(
            f"a pair needs two images, but there is {names[0] if names else 'none'}"
        )
    return _write(output, pairs, len(names))


def covisibility(model_path: Path, output: Path, *, num_matched: int) -> Path:
    """Write the pairs of every image of a model with those that share the most points with it.

    Args:
        model_path: the folder of a COLMAP model with points.
        output: the pairs file.
        num_matched: the largest number of partners of an image; all of them share points with it.

    Raises:
        DiskHlocError: no model, or no two of its images share points.
    """
    model = read_model(model_path)
    images = _registered(model)
    place = {image.image_id: i for i, image in enumerate(images)}
    rows: list[int] = []
    columns: list[int] = []
    for column, point in enumerate(model.points3D.values()):
        seen_by = {place[element.image_id] for element in point.track.elements}
        rows.extend(seen_by)
        columns.extend([column] * len(seen_by))
    shape = (len(images), model.num_points3D())
    seen = scipy.sparse.csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape)
    pairs = []
    for i, image in enumerate(images):
        shared = (seen[[i]] @ seen.T).toarray()[0]
        shared[i] = 0
        for j in np.argsort(-shared, kind="stable")[:num_matched]:
            if shared[j] > 0:
                pairs.append((image.name, images[j].name))
    if not pairs:
        raise DiskHlocError(
            f"no two images of {model_path} share points: choose pairs by poses instead"
        )
    return _write(output, pairs, len(images))


def poses(model_path: Path, output: Path, *, num_matched: int, max_angle: float = 30.0) -> Path:
    """Write the pairs of every image of a model with the nearest that look the same way.

    Args:
        model_path: the folder of a COLMAP model; its points are not used.
        output: the pairs file.
        num_matched: the largest number of partners of an image.
        max_angle: the largest angle between viewing directions, in degrees.

    Raises:
        DiskHlocError: no model, or none of its images look the same way.
    """
    images = _registered(read_model(model_path))
    located = [to_pose(cam_from_world(image)) for image in images]
    centers = np.array([pose.center for pose in located])
    # What an image looks along is the third row of its rotation.
    directions = np.array([pose.rotation[2] for pose in located])
    pairs = []
    for i, image in enumerate(images):
        distances = np.linalg.norm(centers - centers[i], axis=1)
        distances[angle_between(directions, directions[i]) >= max_angle] = np.inf
        distances[i] = np.inf
        for j in np.argsort(distances, kind="stable")[:num_matched]:
            if np.isfinite(distances[j]):
                pairs.append((image.name, images[j].name))
    if not pairs:
        raise DiskHlocError(f"no two images of {model_path} look the same way within {max_angle}°")
    return _write(output, pairs, len(images))


def check_choice(source: str) -> None:
    """Check what :func:`choose` takes, before anything is computed for it.

    Raises:
        DiskHlocError: ``source`` is neither ``exhaustive`` nor a sound pairs file.
    """
    if source == "exhaustive":
        return
    if not Path(source).is_file():
        command = source if source in METHODS else "sequential"
        raise DiskHlocError(
            f"--pairs {source} is neither 'exhaustive' nor a pairs file: write one first, for "
            f"example with `disk-hloc pairs {command} PHOTOS PAIRS.txt`"
        )
    read_pairs(Path(source))


def choose(source: str, names: Sequence[str], output: Path, without: Collection[str] = ()) -> Path:
    """Write the pairs that a pipeline's option names, without some images.

    Args:
        source: ``exhaustive``, or a pairs file.
        names: all images.
        output: the pairs file.
        without: the images to leave out.

    Raises:
        DiskHlocError: the file is broken, or no pair is left.
    """
    if source == "exhaustive":
        return exhaustive([name for name in names if name not in without], output)
    return given(Path(source), output, without)


def given(source: Path, output: Path, without: Collection[str] = ()) -> Path:
    """Copy the pairs of a file, without those that have an image of ``without``.

    Raises:
        DiskHlocError: the file is broken, or no pair is left.
    """
    pairs = read_pairs(source)
    kept = [pair for pair in pairs if not set(pair) & set(without)]
    if not kept:
        raise DiskHlocError(f"all pairs of {source} have an image that cannot be read")
    write_pairs(output, kept)
    logger.info("%d pairs of %s; %d are left out", len(kept), source, len(pairs) - len(kept))
    return output


def _names(source: Path) -> list[str]:
    return list_images(source) if source.is_dir() else list_features(source)


def _registered(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    """Return images sorted by name, so that ties do not depend on how a model was built."""
    return sorted(registered_images(model), key=lambda image: image.name)


def _write(output: Path, pairs: Sequence[Pair], num_images: int) -> Path:
    write_pairs(output, pairs)
    logger.info("%d pairs of %d images", len(pairs), num_images)
    return output


METHODS: dict[str, Callable[..., Path]] = {
    "exhaustive": lambda source, output: exhaustive(_names(source), output),
    "sequential": sequential,
    "covisibility": covisibility,
    "poses": poses,
}
