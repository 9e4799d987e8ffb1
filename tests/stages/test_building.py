"""What COLMAP's process imports: each model waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["building", "cluster_mapping"])
def test_the_process_imports_no_more_than_it_needs(module: str) -> None:
    code = f"import disk_hloc.stages.{module}, sys; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported = set(printed.stdout.split())
    assert "disk_hloc.stages.mapping" in imported
    assert not imported & {"torch", "scipy", "kornia", "hloc", "disk_hloc.plugin"}
