"""Which device a network runs on, and what its memory holds at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from disk_hloc.errors import DiskHlocError, is_out_of_memory
from disk_hloc.log import logger

Item = TypeVar("Item")
Result = TypeVar("Result")


def resolve(device: str = "auto") -> torch.device:
    """``auto`` (CUDA where there is any, else the CPU), or a device by torch's name.

    Raises:
        DiskHlocError: torch knows no such device, or this machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DiskHlocError(f"device {device!r} cannot be used here: {reason}") from error
    return resolved


def within_memory(
    batches: Iterable[list[Item]],
    compute: Callable[[list[Item]], list[Result]],
    device: torch.device,
) -> Iterator[tuple[Item, Result | None]]:
    """What is computed of each item, those of a batch together as far as memory goes.

    Args:
        batches: of items.
        compute: results of items, in their order. Where that takes more memory than there is, half
            as many go together, and no more in later batches.
        device: that of the computation.

    Yields:
        An item and its result; None for one that does not go into memory even alone.
    """
    most: int | None = None
    for batch in batches:
        waiting = batch
        while waiting:
            part = waiting[:most]
            results: list[Result | None] | None = None
            try:
                results = [*compute(part)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Here the error is gone, and with it all that was computed before.
            if results is None:
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(part) > 1:
                    most = len(part) // 2
                    logger.warning("%s has no memory for %d at once: %d", device, len(part), most)
                    continue
                results = [None]
            yield from zip(part, results, strict=True)
            waiting = waiting[len(part) :]
