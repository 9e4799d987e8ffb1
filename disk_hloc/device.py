"""The device that a network runs on, what it is fast at, and batches that fit its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from disk_hloc.errors import DiskHlocError, is_out_of_memory
from disk_hloc.log import logger

Item = TypeVar("Item")
Result = TypeVar("Result")


def resolve(device: str = "auto") -> torch.device:
    """Return a device by name.

    Args:
        device: ``auto`` (CUDA if available, else the CPU), or torch's name of a device.

    Raises:
        DiskHlocError: the device is unknown to torch, or not available on this machine.
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


def has_fast_bfloat16() -> bool:
    """Tell whether the CPU multiplies bfloat16 in instructions of its own."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def within_memory(
    batches: Iterable[list[Item]],
    compute: Callable[[list[Item]], list[Result]],
    device: torch.device,
) -> Iterator[tuple[Item, Result | None]]:
    """Compute a result for each item, in batches that are halved when memory runs out.

    Args:
        batches: of items.
        compute: returns the results of items, in their order. Once a batch was halved, later
            batches are not larger.
        device: that of the computation.

    Yields:
        An item and its result; None for one that does not fit into memory even alone.
    """
    max_items: int | None = None
    for batch in batches:
        waiting = batch
        while waiting:
            part = waiting[:max_items]
            results: list[Result | None] | None = None
            try:
                results = [*compute(part)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Only here is the error freed, and with it the memory of the failed attempt.
            if results is None:
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(part) > 1:
                    max_items = len(part) // 2
                    logger.warning(
                        "%s has no memory for %d at once: %d", device, len(part), max_items
                    )
                    continue
                results = [None]
            yield from zip(part, results, strict=True)
            waiting = waiting[len(part) :]
