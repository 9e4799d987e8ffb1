"""Which device a network runs on."""

from __future__ import annotations

import torch

from .errors import DiskHlocError


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
