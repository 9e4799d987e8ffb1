"""Memory that is reused for the next image.

The memory of a large tensor is requested from the system each time, which on a CPU takes as long as
filling it several times.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor


class Workspace(threading.local):
    """Named buffers that grow as needed; each thread has its own. A copy starts empty."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(
        self,
        name: str,
        *shape: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Return a tensor in the memory of the last one taken by that name. It is not cleared."""
        device = device or torch.device("cpu")
        size = torch.Size(shape).numel()
        buffer = self._buffers.get((name, dtype, device))
        if buffer is None or len(buffer) < size:
            self._buffers.pop((name, dtype, device), None)
            # A tensor of inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                buffer = torch.empty(size, dtype=dtype, device=device)
            self._buffers[name, dtype, device] = buffer
        return buffer[:size].view(shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return Workspace, ()
