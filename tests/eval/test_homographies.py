"""Data sets in HPatches' layout: made from photos, and read."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import homographies
from disk_hloc.io.benchmarks import hpatches as files
from support.errors import one_line_error


@pytest.fixture(scope="module")
def warped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of a photo of each of two places, 320 px wide."""
    folder = tmp_path_factory.mktemp("warped")
    photos = folder / "photos"
    photos.mkdir()
    for place in ("sacre_coeur", "fountain_p11"):
        photo = sorted((data / place / "images").glob("*.jpg"))[0]
        shutil.copyfile(photo, photos / f"{place}.jpg")
    return homographies.main(photos, folder / "hpatches", size=320)


def test_a_made_data_set_is_what_its_homographies_say(warped: Path) -> None:
    truth = files.read_scenes(warped)
    assert len(truth) == 20
    for pair, homography in truth.items():
        first, other = (cv2.imread(str(warped / name)) for name in pair)
        assert first.shape == other.shape
        assert max(first.shape) == 320
        if pair[0].startswith("i_"):
            np.testing.assert_array_equal(homography, np.eye(3))
            assert abs(first.astype(float) - other).mean() > 2
            continue
        assert not np.allclose(homography, np.eye(3), atol=1e-2)
        height, width = first.shape[:2]
        moved = cv2.warpPerspective(first, homography, (width, height))
        seen = cv2.warpPerspective(np.ones((height, width)), homography, (width, height)) == 1
        assert seen.mean() > 0.3
        # It is the same photo where both show it, but for what interpolation loses.
        off = abs(moved.astype(float) - other)[seen].mean()
        shifted = abs(np.roll(moved, 3, axis=1).astype(float) - other)[seen].mean()
        assert off < 4
        assert off < shifted / 2


def test_scenes_left_out_and_broken_ones(warped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hpatches"
    shutil.copytree(warped, folder)
    (folder / "v_sacre_coeur").rename(folder / "v_talent")
    assert {kind for kind, _, _ in (p[0].partition("_") for p in files.read_scenes(folder))} == {
        "i",
        "v",
    }
    assert len(files.read_scenes(folder)) == 15
    (folder / "i_sacre_coeur" / "H_1_3").write_text("1 0 0\n0 1 0\n")
    with pytest.raises(DiskHlocError) as error:
        files.read_scenes(folder)
    assert one_line_error(error, "H_1_3", "9 numbers")
    (folder / "i_sacre_coeur" / "4.ppm").unlink()
    with pytest.raises(DiskHlocError) as error:
        files.read_scenes(folder)
    assert one_line_error(error, folder, "i_sacre_coeur/4.ppm")
    with pytest.raises(DiskHlocError, match="has no scene"):
        files.read_scenes(tmp_path)


def test_the_same_data_set_again(data: Path, tmp_path: Path) -> None:
    photos = str(data / "fountain_p11" / "images")
    for name in ("a", "b"):
        arguments = ["eval", "make-homographies", photos, str(tmp_path / name), "--limit", "1"]
        done = CliRunner().invoke(app, [*arguments, "--size", "128"])
        assert done.exit_code == 0, done.output
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 12
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
