"""Choose the tuples of batches in an order given by a seed, load them, and read them ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.training.dataset import TrainingScene, read_training_image

from .geometry import View

# Index of a scene, and index of a tuple in it.
Tuple = tuple[int, int]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Batch:
    """A batch of B tuples of K photos.

    Attributes:
        images: (B * K, 3, H, W) float32, tuple by tuple.
        views: B lists of K cameras.
        sizes: B lists of K (width, height) in pixels, without the padding.
        names: B lists of K image names.
    """

    images: Tensor
    views: list[list[View]]
    sizes: list[list[tuple[int, int]]]
    names: list[list[str]]

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device."""
        images = self.images
        if device.type == "cuda":
            images = images.pin_memory()
        return Batch(
            images.to(device, non_blocking=True),
            [[view.to(device) for view in views] for views in self.views],
            self.sizes,
            self.names,
        )


def tuple_order(scenes: Sequence[TrainingScene], limit: int, seed: int, number: int) -> list[Tuple]:
    """Draw the tuples of one pass over the data: a random subset of each scene, in random order.

    The limit keeps a scene with many tuples from outweighing the others. Each pass draws a new
    subset.

    Args:
        scenes: the data set.
        limit: maximum number of tuples per scene.
        seed: seed of the run.
        number: number of the pass, from 0.
    """
    rng = np.random.default_rng([seed, number])
    chosen = [
        (s, int(t))
        for s, scene in enumerate(scenes)
        for t in rng.permutation(len(scene.tuples))[:limit]
    ]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def batches(
    scenes: Sequence[TrainingScene],
    limit: int,
    batch_size: int,
    seed: int,
    *,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[list[Tuple]]:
    """Yield batches endlessly; a larger ``start`` skips the first ones and changes no others.

    Args:
        scenes, limit, seed: see :func:`tuple_order`.
        batch_size: number of tuples in a batch on one device.
        start: number of the first batch.
        rank, world_size: index of this device and number of devices; each device has its own share
            of every pass.

    Raises:
        DiskHlocError: a pass has less than one batch per device.
    """
    at_once = batch_size * world_size
    in_pass = sum(min(limit, len(scene.tuples)) for scene in scenes) // at_once
    if in_pass == 0:
        raise DiskHlocError(
            f"a pass over the data set has fewer than the {at_once} tuples of a batch: decrease "
            "--batch-size or increase --train-scene-limit"
        )
    number, within = divmod(start, in_pass)
    while True:
        order = tuple_order(scenes, limit, seed, number)
        for i in range(within, in_pass):
            first = i * at_once + rank * batch_size
            yield order[first : first + batch_size]
        number, within = number + 1, 0


def load(
    scenes: Sequence[TrainingScene],
    tuples: Sequence[Tuple],
    size: tuple[int, int],
    interpolation: str,
) -> Batch:
    """Read the photos of tuples with their cameras and depth.

    Args:
        scenes: the data set.
        tuples: the tuples to read.
        size: width and height in pixels.
        interpolation: interpolation of photos, see :func:`disk_hloc.io.images.resize_image`.

    Raises:
        DiskHlocError: a file is missing or broken.
    """
    images, views, sizes, names = [], [], [], []
    for s, t in tuples:
        of_tuple = [
            read_training_image(scenes[s], i, size, interpolation) for i in scenes[s].tuples[t]
        ]
        images += [torch.from_numpy(one.image) for one in of_tuple]
        views.append(
            [
                View(
                    torch.from_numpy(one.matrix),
                    torch.from_numpy(one.rotation),
                    torch.from_numpy(one.translation),
                    None if one.depth is None else torch.from_numpy(one.depth),
                )
                for one in of_tuple
            ]
        )
        sizes.append([one.size for one in of_tuple])
        names.append([scenes[s].images[i] for i in scenes[s].tuples[t]])
    return Batch(torch.stack(images), views, sizes, names)


def read_ahead(items: Iterable[T], read: Callable[[T], R], workers: int) -> Iterator[R]:
    """Yield the result of ``read`` for each item, in order, computed ahead by threads.

    Args:
        items: finite or infinite.
        read: function that is called in the threads.
        workers: number of threads and of items to read ahead, at least one.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: list[Future[R]] = [
            pool.submit(read, item) for item in islice(remaining, workers + 1)
        ]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(read, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
