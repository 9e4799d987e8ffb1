"""The methods for pairs by name, and what ``--pairs`` says."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc import confs
from disk_hloc.confs import TRUE_OR_FALSE, Value, number, require_known_keys, require_values
from disk_hloc.confs import whole_number as whole
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.conf_files import read_conf
from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.hloc.pairs import Pair, read_pairs, write_pairs
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
    conf = _sound({"name": method, **options}, f"pairs {method}")
    if chosen.of_model:
        pairs = chosen.choose(source, **conf)
        num_images = len({name for pair in pairs for name in pair})
    else:
        photos = Photos(
            list_images(source) if source.is_dir() else list_features(source),
            source if source.is_dir() else None,
            None if descriptors is None else lambda: descriptors,
            device,
        )
        pairs = distinct(_chosen(method, photos, conf))
        num_images = len(photos.names)
    _write(output, pairs, num_images, method)
    return output


def check_choice(choice: str, photos: Photos) -> None:
    """Check what :func:`choose` takes, before anything is computed for it.

    Raises:
        DiskHlocError: a part is neither a method nor a sound pairs file, the file has none of the
            photos' pairs, or pairs by GPS alone are asked for and no two photos have it.
    """
    parts = _parts(choice)
    for part in parts:
        if isinstance(part, Path):
            others = {name for pair in read_pairs(part) for name in pair} - set(photos.names)
            if others:
                raise DiskHlocError(
                    f"{part} pairs {len(others)} images that are not among the photos of "
                    f"{photos.image_dir}: {listing(sorted(others))}; remove them, or add the photos"
                )
    if choice == "spatial":
        gps.located(photos)


def choose(choice: str, photos: Photos, output: Path, without: Collection[str] = ()) -> Path:
    """Write the pairs that the option of a pipeline asks for.

    Args:
        choice: methods, yaml files of the form of configs/pairs.yaml and pairs files, joined with
            ``+``.
        photos: the photos.
        output: the pairs file.
        without: photos to leave out.

    Raises:
        DiskHlocError: as :func:`check_choice` and the methods, or no pair is left.
    """
    parts = _parts(choice)
    left = photos.without(without) if without else photos
    pairs: list[Pair] = []
    for part in parts:
        if isinstance(part, Path):
            pairs += _of_file(part, without)
            continue
        options = {key: value for key, value in part.items() if key != "name"}
        try:
            found = _chosen(part["name"], left, options)
        except NoPairs as error:
            if len(parts) == 1:
                raise
            logger.warning("%s", error)
            continue
        # In the order of their names, whichever method chose them: matches can be kept.
        pairs += [(min(pair), max(pair)) for pair in found]
    if not pairs:
        raise NoPairs(f"--pairs {choice} finds no pair of the {len(left.names)} photos")
    _write(output, distinct(pairs), len(left.names), choice)
    return output


def _chosen(method: str, photos: Photos, options: Mapping[str, Any]) -> list[Pair]:
    if len(photos.names) < 2:
        only = photos.names[0] if photos.names else "none"
        raise NoPairs(f"a pair needs two images, but there is {only}")
    pairs = METHODS[method].choose(photos, **options)
    if not pairs:
        raise NoPairs(f"pairs by {method}: there is no pair of the {len(photos.names)} images")
    return pairs


def _parts(choice: str) -> list[Path | dict[str, Any]]:
    """Return the parts of a choice: pairs files, and methods as ``{name, options}``."""
    # A file may have a plus in its name.
    words = [choice] if Path(choice).is_file() else choice.split("+")
    parts = []
    for word in words:
        part = _part(word)
        if part is None:
            raise DiskHlocError(_unknown(word, choice))
        parts.append(part)
    return parts


def _part(word: str) -> Path | dict[str, Any] | None:
    if word in _of_photos():
        return {"name": word, **_sound({"name": word}, f"pairs {word}")}
    if word.endswith((".yaml", ".yml")):
        model = read_conf("pairs", Path(word))["model"]
        if model["name"] not in _of_photos():
            raise DiskHlocError(
                f"the conf {word} has model: name: {model['name']}, expected a method for pairs: "
                f"{', '.join(_of_photos())}"
            )
        return {"name": model["name"], **_sound(model, f"model of the conf {word}")}
    return Path(word) if Path(word).is_file() else None


def _sound(model: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options of a method, checked, with defaults for those that are not given."""
    values = METHODS[model["name"]].values
    given = {key: value for key, value in model.items() if key != "name"}
    require_known_keys(given, values, where)
    require_values(given, values, where)
    defaults = confs.packaged("pairs").get(model["name"], {"model": {}})["model"]
    return {key: value for key, value in defaults.items() if key != "name"} | given


def _unknown(word: str, choice: str) -> str:
    methods = _of_photos()
    what = f"--pairs {choice}" if word == choice else f"{word!r} of --pairs {choice}"
    if word in METHODS:
        return (
            f"{what} chooses pairs of a model: write them with `disk-hloc pairs {word} MODEL "
            "PAIRS.txt`, and give that file"
        )
    similar = difflib.get_close_matches(word, methods, n=1)
    hint = f", did you mean {similar[0]!r}?" if similar else ""
    return (
        f"{what} is neither a method nor a file{hint} (methods: {', '.join(methods)}; several are "
        "joined with +)"
    )


def _of_photos() -> list[str]:
    return [name for name, method in METHODS.items() if not method.of_model]


def _of_file(path: Path, without: Collection[str]) -> list[Pair]:
    """Read the pairs of a file, without those that have an image of ``without``."""
    pairs = read_pairs(path)
    kept = [pair for pair in pairs if not set(pair) & set(without)]
    if not kept:
        raise DiskHlocError(f"all pairs of {path} have an image that cannot be read")
    if len(kept) < len(pairs):
        logger.info("%d of %d pairs of %s are left out", len(pairs) - len(kept), len(pairs), path)
    return kept


def _write(output: Path, pairs: list[Pair], num_images: int, choice: str = "") -> None:
    write_pairs(output, pairs)
    if choice != "auto":  # which has said how many, and why
        by = f" by {choice}" if choice else ""
        logger.info("%d pairs of %d images%s", len(pairs), num_images, by)
