"""The one thread that localizes, and the bounded queue of queries before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Query = TypeVar("Query")
Answer = TypeVar("Answer")

# The weight of a new duration in the mean by which clients are told when to come back.
_WEIGHT = 0.2


class QueueFull(Exception):
    """As many queries wait as may wait.

    Attributes:
        retry_after: seconds until there is probably room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full for about {retry_after} s")
        self.retry_after = retry_after


class Worker(Generic[Query, Answer]):
    """Answers queries one after the other, in one thread of its own.

    A query that has begun cannot be interrupted: the thread is taken until it ends. One that still
    waits can be abandoned, which frees its place and its memory at once.

    Args:
        answer: what to do with a query, always called in the same thread.
        capacity: how many queries may wait besides the one that runs.
    """

    def __init__(self, answer: Callable[[Query], Answer], capacity: int) -> None:
        self._answer = answer
        self._capacity = capacity
        self._waiting: dict[Future[Answer], Query] = {}
        self._changed = threading.Condition()
        self._since: float | None = None
        self._mean_seconds = 1.0
        # A daemon: the end of the process does not wait for a query.
        threading.Thread(target=self._run, name="localizer", daemon=True).start()

    @property
    def waiting(self) -> int:
        """The number of queries that wait."""
        return len(self._waiting)

    @property
    def running_seconds(self) -> float:
        """For how long the present query has been running; 0 if none is."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def require_room(self) -> None:
        """Check that a query could be queued now.

        Raises:
            QueueFull: it could not.
        """
        if len(self._waiting) >= self._capacity:
            raise QueueFull(max(1, round(self._mean_seconds * (self._capacity + 1) / 2)))

    def submit(self, query: Query) -> Future[Answer]:
        """Queue a query.

        Raises:
            QueueFull: as many wait as may wait.
        """
        future: Future[Answer] = Future()
        with self._changed:
            self.require_room()
            self._waiting[future] = query
            self._changed.notify()
        return future

    def abandon(self, future: Future[Answer]) -> None:
        """Forget a query that nobody waits for, unless it has begun."""
        with self._changed:
            self._waiting.pop(future, None)
        future.cancel()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                future = next(iter(self._waiting))
                query = self._waiting.pop(future)
                self._since = time.monotonic()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._answer(query))
                except Exception as error:  # noqa: BLE001 - it is raised to who waits
                    future.set_exception(error)
            self._mean_seconds += _WEIGHT * (self.running_seconds - self._mean_seconds)
            self._since = None
            # Else the last photo stays in memory until the next one comes.
            del future, query
