"""The thread that localizes, and its queue."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from disk_hloc.serve.worker import QueueFull, Worker


class Slow:
    """Answers with a query's number when it is let."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.threads: set[int] = set()

    def __call__(self, query: int) -> int:
        self.threads.add(threading.get_ident())
        self.begun.release()
        self.go.acquire()
        if query < 0:
            raise ValueError(query)
        return query


def test_answers_come_in_turn_from_one_thread() -> None:
    slow = Slow()
    worker = Worker(slow, 8)
    futures = [worker.submit(number) for number in range(5)]
    for _ in futures:
        slow.go.release()
    assert [future.result(5) for future in futures] == list(range(5))
    assert len(slow.threads) == 1
    assert threading.get_ident() not in slow.threads


def test_the_queue_is_bounded_and_room_comes_back() -> None:
    slow = Slow()
    worker = Worker(slow, 2)
    first = worker.submit(0)
    assert slow.begun.acquire(timeout=5)
    waiting = [worker.submit(1), worker.submit(2)]
    with pytest.raises(QueueFull) as full:
        worker.submit(3)
    assert full.value.retry_after >= 1
    worker.abandon(waiting[0])
    assert waiting[0].cancelled()
    fourth = worker.submit(4)
    for _ in range(3):
        slow.go.release()
    assert [future.result(5) for future in (first, waiting[1], fourth)] == [0, 2, 4]


def test_one_that_runs_keeps_the_thread_though_it_is_abandoned() -> None:
    slow = Slow()
    worker = Worker(slow, 2)
    first = worker.submit(0)
    assert slow.begun.acquire(timeout=5)
    worker.abandon(first)
    second = worker.submit(1)
    assert not slow.begun.acquire(timeout=0.1)
    assert worker.running_seconds > 0
    slow.go.release()
    slow.go.release()
    assert second.result(5) == 1


def test_an_error_is_that_of_its_query_alone() -> None:
    slow = Slow()
    worker = Worker(slow, 2)
    futures = [worker.submit(-1), worker.submit(1)]
    for _ in futures:
        slow.go.release()
    with pytest.raises(ValueError, match="-1"):
        futures[0].result(5)
    assert futures[1].result(5) == 1


def test_no_query_is_kept_when_it_is_over_or_abandoned() -> None:
    class Photo:
        pass

    go = threading.Event()
    worker: Worker[Photo, bool] = Worker(lambda photo: go.wait(5), 2)
    running, waiting = Photo(), Photo()
    alive = [weakref.ref(running), weakref.ref(waiting)]
    futures = [worker.submit(running), worker.submit(waiting)]
    del running, waiting
    worker.abandon(futures[1])
    gc.collect()
    assert alive[1]() is None
    go.set()
    futures[0].result(5)
    for _ in range(100):
        if alive[0]() is None:
            break
        threading.Event().wait(0.02)
    assert alive[0]() is None
