"""Time alternating runs, and report figures as a table and as JSON.

Runs that are compared alternate in one process, so that a machine that slows down affects all of
them. The first round is a warm-up and is dropped. Compare medians and their ratios.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

PHOTOS = Path(__file__).parent.parent.parent / "shared" / "data" / "sacre_coeur" / "images"


def alternate(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each run in each round except the first."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each run."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Describe the machine on which the figures were measured."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def gflops(
    size: int = 2048, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> float:
    """Measure a device's rate of matrix products in GFLOP/s; by default the CPU's."""
    a = torch.randn(size, size, device=device).to(dtype)
    seconds = medians(alternate({"product": lambda: a @ a}, 9))["product"]
    return 2 * size**3 / seconds / 1e9


def write(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Print the figures, one per line, and write them as JSON."""
    for name, value in figures.items():
        print(f"{name:44} {value:.4g}" if isinstance(value, float) else f"{name:44} {value}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
