"""The demo, as `make demo` runs it."""

from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest
from packaging.version import Version
from PIL import Image

from disk_hloc.pipelines import demo

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)


def test_the_room_is_reconstructed_to_millimetres(tmp_path: Path) -> None:
    report = demo.main(tmp_path)
    assert report["registered"] == report["images"] == 12
    assert report["position_error_mm"]["max"] < 3
    assert report["rotation_error_deg"]["max"] < 0.3
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size[0] > 1000
        # Not blank: photo, points and cameras are on it.
        assert len(picture.convert("RGB").resize((64, 24)).getcolors(10_000)) > 200
