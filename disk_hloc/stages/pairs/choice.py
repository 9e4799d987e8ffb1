"""What ``--pairs`` of a pipeline says: methods and pairs files, joined with a plus."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.conf_files import read_conf
from disk_hloc.io.hloc.pairs import Pair, read_pairs
from disk_hloc.log import logger

from . import gps
from .photos import NoPairs, Photos, distinct, in_order
from .registry import METHODS, pairs_by, sound_options, write


def check_choice(choice: str, photos: Photos) -> None:
    """Check what :func:`choose` takes, before anything is computed for it.

    Raises:
        DiskHlocError: a part is neither a method nor a sound pairs file, a file names other
            photos, or pairs by GPS alone are asked for and no two photos have it.
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
    methods = [part["name"] for part in parts if not isinstance(part, Path)]
    if len(parts) == 1 and methods == ["spatial"]:
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
        try:
            pairs += _of_file(part, without) if isinstance(part, Path) else _of_method(part, left)
        except NoPairs as error:
            if len(parts) == 1:
                raise
            logger.warning("%s", error)
    if not pairs:
        raise NoPairs(f"--pairs {choice} finds no pair of the {len(left.names)} photos")
    write(output, distinct(pairs), len(left.names), choice)
    return output


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
        return {"name": word, **sound_options({"name": word}, f"pairs {word}")}
    if word.endswith((".yaml", ".yml")):
        model = read_conf("pairs", Path(word))["model"]
        if model["name"] not in _of_photos():
            raise DiskHlocError(
                f"the conf {word} has model: name: {model['name']}, expected a method for pairs: "
                f"{', '.join(_of_photos())}"
            )
        return {"name": model["name"], **sound_options(model, f"model of the conf {word}")}
    return Path(word) if Path(word).is_file() else None


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
        raise NoPairs(f"all pairs of {path} have an image that cannot be read")
    if len(kept) < len(pairs):
        logger.info("%d of %d pairs of %s are left out", len(pairs) - len(kept), len(pairs), path)
    return kept


def _of_method(part: dict[str, Any], photos: Photos) -> list[Pair]:
    """Return the pairs of a method, each in the order of its names.

    The order is the same whichever method chose a pair, so that its matches can be kept.
    """
    options = {key: value for key, value in part.items() if key != "name"}
    return [in_order(pair) for pair in pairs_by(part["name"], photos, options)]
