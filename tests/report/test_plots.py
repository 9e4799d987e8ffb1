"""Plots of curves."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from PIL import Image

from disk_hloc.report import plots

PANELS = {
    "left": {"disk": ([0.0, 1.0], [0.0, 1.0], True), "other": ([0.0, 1.0], [0.5, 0.5], False)},
    "right": {"disk": ([0.0, 1.0], [0.2, 0.8], True), "other": ([0.0, 1.0], [0.1, 0.9], False)},
}


def test_panels_are_side_by_side_in_two_formats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = plots.plot(tmp_path / "new", PANELS, "error", "share")
    assert written == [tmp_path / "new" / "results.png", tmp_path / "new" / "results.svg"]
    two = Image.open(written[0]).size
    one = Image.open(plots.plot(tmp_path, {"left": PANELS["left"]}, "error", "share")[0]).size
    assert two[0] > one[0]
    assert two[1] == one[1]
    assert "<svg" in written[1].read_text()


def test_without_matplotlib_there_is_a_warning(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(logging.getLogger("disk_hloc"), "propagate", True)
    assert plots.plot(tmp_path, PANELS, "error", "share") == []
    assert "disk_hloc[eval]" in caplog.text
    assert list(tmp_path.iterdir()) == []
