"""The methods for pairs by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc import confs
from disk_hloc.confs import TRUE_OR_FALSE, Value, number, require_known_keys, require_values
from disk_hloc.confs import whole_number as whole
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import list_keypoints
from disk_hloc.io.hloc.pairs import Pair, write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.io.outputs import require_output
from disk_hloc.log import logger

from . import gps
from .auto import auto
from .model import covisibility, poses
from .names import exhaustive, sequential
from .photos import NoPairs, Photos, distinct
from .retrieval import retrieval


@dataclass(frozen=True)
class Method:
    """A way to choose pairs.

    Attributes:
        choose: returns the pairs of :class:`.photos.Photos`, or of the folder of a model; its
            other arguments are options. A pair may be there twice, in either order.
        values: the options and what they may be set to. Their defaults are in configs/pairs.yaml,
            under the method's name.
        of_model: pairs are those of a model.
    """

    choose: Callable[..., list[Pair]]
    values: Mapping[str, Value]
    of_model: bool = False


METHODS: dict[str, Method] = {
    "auto": Method(
        auto,
        {
            "exhaustive_up_to": whole(0),
            "num_matched": whole(1),
            "overlap": whole(1),
            "num_nearest": whole(1),
            "max_distance": number(0),
        },
    ),
    "exhaustive": Method(exhaustive, {}),
    "retrieval": Method(retrieval, {"num_matched": whole(1), "min_score": number(-1, 1)}),
    "sequential": Method(
        sequential,
        {
            "overlap": whole(1),
            "quadratic": TRUE_OR_FALSE,
            "loop_period": whole(0),
            "loop_matched": whole(0),
        },
    ),
    "spatial": Method(gps.spatial, {"num_matched": whole(1), "max_distance": number(0)}),
    "covisibility": Method(covisibility, {"num_matched": whole(1)}, of_model=True),
    "poses": Method(poses, {"num_matched": whole(1), "max_angle": number(0, 180)}, of_model=True),
}


def main(
    method: str,
    source: Path,
    output: Path,
    *,
    descriptors: Path | None = None,
    device: str = "auto",
    **options: Any,
) -> Path:
    """Write the pairs to match.

    Args:
        method: a name of :data:`METHODS`.
        source: what the method chooses from: the folder of a COLMAP model, or a folder of photos
            or a features file. A features file has no times and no positions.
        output: the pairs file.
        descriptors: the photos' global descriptors, for the methods that retrieve.
        device: where they are compared.
        options: of the method; the others are those of configs/pairs.yaml.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: an unknown method or a wrong option, nothing to pair, or a name with white
            space.
    """
    if method not in METHODS:
        raise DiskHlocError(
            f"no method for pairs is called {method!r}; known: {', '.join(METHODS)}"
        )
    inputs = {"source of the pairs": source, "descriptors": descriptors}
    require_output(output, "text", inputs)
    chosen = METHODS[method]
    conf = sound_options({"name": method, **options}, f"pairs {method}")
    if chosen.of_model:
        pairs = chosen.choose(source, **conf)
        num_images = len({name for pair in pairs for name in pair})
    else:
        photos = Photos(
            list_images(source) if source.is_dir() else list_keypoints(source),
            source if source.is_dir() else None,
            None if descriptors is None else lambda: descriptors,
            device,
        )
        pairs = distinct(pairs_by(method, photos, conf))
        num_images = len(photos.names)
    write(output, pairs, num_images, method)
    return output


def pairs_by(method: str, photos: Photos, options: Mapping[str, Any]) -> list[Pair]:
    """Return the pairs of a method for photos.

    Args:
        method: its name.
        photos: the photos.
        options: all of its options.

    Raises:
        NoPairs: fewer than two photos, or the method finds no pair.
        DiskHlocError: as the method.
    """
    if len(photos.names) < 2:
        only = photos.names[0] if photos.names else "none"
        raise NoPairs(f"a pair needs two images, but there is {only}")
    pairs = METHODS[method].choose(photos, **options)
    if not pairs:
        raise NoPairs(f"pairs by {method}: there is no pair of the {len(photos.names)} images")
    return pairs


def sound_options(model: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options of a method, with those of configs/pairs.yaml that are not given.

    Args:
        model: ``{name, options}``.
        where: what it is, for the error.

    Raises:
        DiskHlocError: an unknown option or an impossible value.
    """
    values = METHODS[model["name"]].values
    given = {key: value for key, value in model.items() if key != "name"}
    require_known_keys(given, values, where)
    require_values(given, values, where)
    defaults = confs.packaged("pairs").get(model["name"], {"model": {}})["model"]
    return {key: value for key, value in defaults.items() if key != "name"} | given


def write(output: Path, pairs: list[Pair], num_images: int, choice: str) -> None:
    """Write a pairs file, and log how many pairs are in it and what chose them."""
    write_pairs(output, pairs)
    if choice != "auto":  # which has said how many, and why
        logger.info("%d pairs of %d images by %s", len(pairs), num_images, choice)
