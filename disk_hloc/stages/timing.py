"""How long stages take, also over several runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disk_hloc.io.replace import replace_text


@contextmanager
def timed(seconds: MutableMapping[str, Any], stage: str) -> Iterator[None]:
    """Add ``stage`` -> its duration to ``seconds``, once the context has ended without an error."""
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 2)


@dataclass
class Record:
    """The time that a stage took, over all runs that worked on its file.

    Attributes:
        done: an earlier run has finished the stage with the same conf.
        seconds: None if a run was killed, so that its time is unknown.
    """

    done: bool
    seconds: float | None


@contextmanager
def recorded(target: Path, conf: Mapping[str, Any]) -> Iterator[Record]:
    """Time a stage that makes a file, and keep the record beside the file.

    Args:
        target: the file that the stage makes.
        conf: what the stage depends on.

    Yields:
        The record; if it is ``done``, the stage need not run.
    """
    path = record_path(target)
    conf = json.loads(json.dumps(conf, default=str))
    former: dict[str, Any] = {"conf": conf, "done": False, "seconds": None}
    if not target.is_file():
        former["seconds"] = 0.0
    elif path.is_file():
        former = json.loads(path.read_text(encoding="utf-8"))
    record = Record(former["done"] and former["conf"] == conf, former["seconds"])
    if record.done:
        yield record
        return
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    ended = False
    try:
        yield record
        ended = True
    finally:
        if record.seconds is not None:
            record.seconds = round(record.seconds + time.perf_counter() - start, 2)
        text = json.dumps({"conf": conf, "done": ended, "seconds": record.seconds})
        replace_text(path, text + "\n")


def total(seconds: Iterable[float | None]) -> float | None:
    """Return the sum of times; None if one is unknown."""
    known = list(seconds)
    times = [one for one in known if one is not None]
    return round(sum(times), 2) if len(times) == len(known) else None


def record_path(target: Path) -> Path:
    """Return the path of the record of a stage that makes ``target``."""
    return target.with_suffix(".json")
