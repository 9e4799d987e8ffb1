"""GPS positions in a database: one prior an image, as the photos say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from packaging.version import Version
from PIL import Image

from disk_hloc.io.colmap import create_database
from disk_hloc.io.heif import register_heic
from support.gps_photos import write_photo

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)


def priors(folder: Path, names: list[str], tmp_path: Path) -> dict[str, list[np.ndarray]]:
    """Image name -> position and covariance, read by SQL."""
    ids = create_database(tmp_path / "d.db", folder, names, "auto", None)
    key = "corr_data_id" if Version(pycolmap.__version__) >= Version("4") else "image_id"
    with closing(sqlite3.connect(tmp_path / "d.db")) as database:
        query = f"SELECT {key}, position, position_covariance FROM pose_priors"
        rows = database.execute(query).fetchall()
    names_of = {image_id: name for name, image_id in ids.items()}
    assert len(rows) == len({row[0] for row in rows})
    return {names_of[row[0]]: [np.frombuffer(part) for part in row[1:]] for row in rows}


def test_a_position_is_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    write_photo(folder / "a.jpg", 46.5, -8.25, 1200.5)
    write_photo(folder / "b.jpg", -46.5, 8.25, -12.5, precision=4)
    found = priors(folder, ["a.jpg", "b.jpg"], tmp_path)
    np.testing.assert_allclose(found["a.jpg"][0], [46.5, -8.25, 1200.5], atol=1e-6)
    assert np.isnan(found["a.jpg"][1]).all()
    np.testing.assert_allclose(found["b.jpg"][0], [-46.5, 8.25, -12.5], atol=1e-6)
    np.testing.assert_allclose(found["b.jpg"][1].reshape(3, 3), np.diag([16, 16, 64]))


def test_below_sea_level_in_any_format(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        write_photo(tmp_path / "p" / name, 31.5, 35.5, -430)
        found = priors(tmp_path / "p", [name], tmp_path)
        np.testing.assert_allclose(found[name][0], [31.5, 35.5, -430], atol=1e-6)


def test_no_fix_no_altitude_and_no_gps_are_no_position(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    write_photo(folder / "zero.jpg", 0, 0, 0)
    write_photo(folder / "flat.jpg", 46.5, 8.25)
    Image.new("RGB", (48, 32)).save(folder / "none.jpg")
    found = priors(folder, ["zero.jpg", "flat.jpg", "none.jpg"], tmp_path)
    assert "none.jpg" not in found
    assert all(np.isnan(position).all() for position, _ in found.values())


@pytest.mark.skipif(not register_heic(), reason="needs pillow-heif")
def test_a_format_that_colmap_does_not_read(tmp_path: Path) -> None:
    write_photo(tmp_path / "p" / "a.heic", 46.5, 8.25, 300)
    found = priors(tmp_path / "p", ["a.heic"], tmp_path)
    np.testing.assert_allclose(found["a.heic"][0], [46.5, 8.25, 300], atol=1e-6)
