"""Whether the kernels of this package, which Triton compiles, run on a device."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch

from disk_hloc.log import logger

# The first that Triton supports.
_MIN_CAPABILITY = (7, 0)


def supports(device: torch.device) -> bool:
    """Return whether a device is a GPU by NVIDIA, and Triton is installed."""
    return device.type == "cuda" and _supports(device.index)


@cache
def _supports(index: int | None) -> bool:
    if importlib.util.find_spec("triton") is None:
        logger.warning(
            "Triton is not installed, so that DISK takes several times as long on a GPU: pip "
            "install triton (on Windows triton-windows)"
        )
        return False
    return torch.version.hip is None and torch.cuda.get_device_capability(index) >= _MIN_CAPABILITY
