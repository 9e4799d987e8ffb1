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


def test_the_room_is_reconstructed_to_millimetres_where_the_board_is_masked(
    tmp_path: Path,
) -> None:
    report = demo.main(tmp_path)
    masked, unmasked = report["with masks"], report["without masks"]
    assert masked["registered"] == masked["images"] == 12
    assert masked["position_error_mm"]["mean"] < 3
    assert masked["rotation_error_deg"]["max"] < 0.5
    # Without masks the board decides the poses: images are lost, or decimetres off.
    lost = unmasked["images"] - unmasked["registered"]
    assert lost >= 3 or unmasked["position_error_mm"]["mean"] > 50
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size[0] > 1000
        # Not blank: it shows a photo, points and cameras.
        assert len(picture.convert("RGB").resize((64, 24)).getcolors(10_000)) > 200
