"""Aachen Day-Night v1.1: as v1 (:mod:`.aachen`), in the poses of the model that comes with it.

python -m disk_hloc.pipelines.aachen_v1_1 --dataset D --outputs O
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import aachen


def main(dataset: Path, outputs: Path, **options: Any) -> dict[str, Any]:
    """See :func:`disk_hloc.pipelines.aachen.main`."""
    return aachen.main(dataset, outputs, **{"conf": "aachen_v1_1", **options})


if __name__ == "__main__":
    import runpy
    import sys

    # By name: pipelines do not import the command line, which imports them.
    sys.argv[1:1] = ["pipeline", "aachen_v1_1"]
    runpy.run_module("disk_hloc", run_name="__main__")
