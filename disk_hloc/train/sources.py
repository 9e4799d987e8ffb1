"""Where the batches of a run come from: a data set of DISK's release, or a folder of photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import list_images
from disk_hloc.io.training.dataset import describe_training_set, read_training_set

from .data import Batch, batches, load, tuple_order
from .figures import AnyFigures, Figures, HomographyFigures
from .warped import describe_photos, fixed_tuples, load_warped, warped_batches


@dataclass(frozen=True)
class Source:
    """The data of a training.

    Attributes:
        data: a line that is another for other data.
        items: yields what the batches of a device are made of, endlessly; its keywords are those of
            :func:`.data.batches` from ``start`` on.
        read: makes a batch of it.
    """

    data: str
    items: Callable[..., Iterator[Any]]
    read: Callable[[Any], Batch]


@dataclass(frozen=True)
class Validation:
    """The data of a validation.

    Attributes:
        items: what its batches are made of.
        read: makes a batch of an item.
        figures: the figures of its pairs.
    """

    items: Sequence[Any]
    read: Callable[[Any], Batch]
    figures: type[AnyFigures]


def training_source(path: Path, conf: Conf, seed: int) -> Source:
    """Return the data to train on.

    Args:
        path: ``dataset.json`` (:mod:`disk_hloc.io.training.dataset`), or a folder of photos if the
            settings' ``data: warped`` is on.
        conf: the settings.
        seed: of the run.

    Raises:
        DiskHlocError: the data cannot be read.
    """
    batch_size = conf["schedule"]["batch_size"]
    if conf["data"]["warped"]:
        names = list_images(path)
        return Source(
            describe_photos(path, names),
            partial(warped_batches, len(names), batch_size, seed),
            partial(load_warped, path, names, conf=conf["warp"], **_size(conf)),
        )
    if path.is_dir() and not (path / "dataset.json").exists():
        raise DiskHlocError(
            f"{path} has no dataset.json: make one with disk-hloc dataset, or train on its photos "
            "under homographies with --warped"
        )
    scenes = read_training_set(path, depth=needs_depth(conf))
    return Source(
        describe_training_set(scenes),
        partial(batches, scenes, conf["data"]["train_scene_limit"], batch_size, seed),
        partial(load, scenes, **_size(conf)),
    )


def validation_source(path: Path, conf: Conf, seed: int) -> Validation:
    """Return the data to validate on, which stay the same.

    Args:
        path: ``dataset.json``, or, if the settings' ``data: warped`` is on, a folder of photos; a
            folder with a ``dataset.json`` is a data set all the same.
        conf: the settings.
        seed: of the run.

    Raises:
        DiskHlocError: the data cannot be read.
    """
    limit, at_once = conf["data"]["test_scene_limit"], conf["schedule"]["batch_size"]
    if conf["data"]["warped"] and path.is_dir() and not (path / "dataset.json").exists():
        names = list_images(path)
        return Validation(
            fixed_tuples(len(names), limit, at_once, seed),
            partial(load_warped, path, names, conf=conf["warp"], **_size(conf)),
            HomographyFigures,
        )
    scenes = read_training_set(path, depth=False)
    order = tuple_order(scenes, limit, seed, 0)
    return Validation(
        [order[i : i + at_once] for i in range(0, len(order), at_once)],
        partial(load, scenes, **_size(conf)),
        Figures,
    )


def needs_depth(conf: Conf) -> bool:
    """Return whether the objective of the settings judges by depth."""
    name = conf["objective"]["name"]
    if name == "policy":
        return bool(conf["reward"]["name"] == "depth")
    return bool(name != "line_to_window")


def _size(conf: Conf) -> dict[str, Any]:
    size = conf["preprocessing"]
    return {"size": (size["width"], size["height"]), "interpolation": size["interpolation"]}
