"""The order of tuples, and batches."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.training.dataset import TrainingScene, read_training_set
from disk_hloc.train.data import batches, load, read_ahead, tuple_order


def scenes(*counts: int) -> list[TrainingScene]:
    here = Path()
    return [
        TrainingScene(str(i), here, here, None, ("a", "b"), np.zeros((count, 2), np.int64))
        for i, count in enumerate(counts)
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 6), st.integers(0, 3))
def test_a_pass_has_each_tuple_once_and_no_scene_beyond_its_limit(
    counts: list[int], limit: int, number: int
) -> None:
    order = tuple_order(scenes(*counts), limit, 0, number)
    assert len(set(order)) == len(order)
    for s, count in enumerate(counts):
        mine = [t for scene, t in order if scene == s]
        assert len(mine) == min(limit, count)
        assert set(mine) <= set(range(count))


def test_passes_and_seeds_differ() -> None:
    made = scenes(50)
    assert tuple_order(made, 9, 0, 0) == tuple_order(made, 9, 0, 0)
    assert tuple_order(made, 9, 0, 0) != tuple_order(made, 9, 0, 1)
    assert tuple_order(made, 9, 0, 0) != tuple_order(made, 9, 1, 0)


@given(st.integers(0, 20), st.integers(1, 3), st.integers(1, 3))
def test_batches_resume_where_they_stopped(start: int, batch_size: int, world_size: int) -> None:
    made = scenes(5, 8)
    for rank in range(world_size):
        where = {"rank": rank, "world_size": world_size}
        whole = list(islice(batches(made, 6, batch_size, 3, **where), start + 5))
        rest = list(islice(batches(made, 6, batch_size, 3, start=start, **where), 5))
        assert whole[start:] == rest
        assert all(len(batch) == batch_size for batch in whole)


def test_devices_share_a_pass() -> None:
    made = scenes(12)
    shares = [
        [t for batch in islice(batches(made, 12, 2, 0, rank=rank, world_size=2), 3) for t in batch]
        for rank in range(2)
    ]
    assert sorted(shares[0] + shares[1]) == [(0, t) for t in range(12)]


def test_a_data_set_smaller_than_a_batch_is_an_error() -> None:
    with pytest.raises(DiskHlocError, match="batch-size"):
        next(batches(scenes(3), 2, 3, 0))


def test_a_batch_holds_photos_and_cameras(training_set: Path) -> None:
    made = read_training_set(training_set)
    batch = load(made, [(0, 0), (1, 2)], (96, 80), "cv2_linear")
    assert batch.images.shape == (4, 3, 80, 96)
    assert [len(views) for views in batch.views] == [2, 2]
    assert batch.sizes == [[(96, 72), (96, 72)]] * 2
    assert batch.names == [["0.jpg", "1.jpg"], ["1.jpg", "2.jpg"]]
    depth = batch.views[0][0].depth
    assert depth is not None
    assert depth.shape == (80, 96)
    assert depth[72:].isnan().all()
    assert batch.images[:, :, 72:].eq(0).all()
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.images, batch.images)
    assert (
        load(read_training_set(training_set, depth=False), [(0, 0)], (96, 80), "cv2_area")
        .views[0][0]
        .depth
        is None
    )


def test_reading_ahead_keeps_the_order_and_raises_in_place() -> None:
    def read(item: int) -> int:
        if item == 5:
            raise DiskHlocError("five")
        return item

    stream = read_ahead(range(9), read, 3)
    assert list(islice(stream, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(DiskHlocError, match="five"):
        next(stream)


def test_reading_ahead_overlaps_with_the_caller() -> None:
    second = threading.Event()

    def read(item: int) -> int:
        if item == 1:
            second.set()
        return item

    stream = read_ahead(range(3), read, 1)
    assert next(stream) == 0
    assert second.wait(timeout=10)
    stream.close()
