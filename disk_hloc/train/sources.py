"""Where the batches of a run come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from disk_hloc.confs import Conf
from disk_hloc.io.training.dataset import describe_training_set, read_training_set

from .data import Batch, batches, load, tuple_order


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
    """

    items: Sequence[Any]
    read: Callable[[Any], Batch]


def training_source(path: Path, conf: Conf, seed: int) -> Source:
    """Return the data to train on.

    Args:
        path: ``dataset.json`` (:mod:`disk_hloc.io.training.dataset`).
        conf: the settings.
        seed: of the run.

    Raises:
        DiskHlocError: the data cannot be read.
    """
    batch_size = conf["schedule"]["batch_size"]
    scenes = read_training_set(path, depth=conf["reward"]["name"] == "depth")
    return Source(
        describe_training_set(scenes),
        partial(batches, scenes, conf["data"]["train_scene_limit"], batch_size, seed),
        partial(load, scenes, **_size(conf)),
    )


def validation_source(path: Path, conf: Conf, seed: int) -> Validation:
    """Return the data to validate on, which stay the same.

    Args:
        path: ``dataset.json``.
        conf: the settings.
        seed: of the run.

    Raises:
        DiskHlocError: the data cannot be read.
    """
    limit, at_once = conf["data"]["test_scene_limit"], conf["schedule"]["batch_size"]
    scenes = read_training_set(path, depth=False)
    order = tuple_order(scenes, limit, seed, 0)
    return Validation(
        [order[i : i + at_once] for i in range(0, len(order), at_once)],
        partial(load, scenes, **_size(conf)),
    )


def _size(conf: Conf) -> dict[str, Any]:
    size = conf["preprocessing"]
    return {"size": (size["width"], size["height"]), "interpolation": size["interpolation"]}
