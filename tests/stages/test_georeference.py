"""Models in metres: exact positions, known noise, outliers, and what GPS does not tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from scipy.spatial.transform import Rotation

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.gps import wgs84_from_enu
from disk_hloc.stages import georeference
from support.errors import one_line_error
from support.gps_photos import write_photo

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)

ORIGIN = np.array([46.8425, -91.994, 198.0])
SCALE = 7.5  # metres per unit of the model


def flight(count: int = 40) -> np.ndarray:
    """Positions of a drone's photos in metres: a grid of 20 m, 3 m up and down."""
    rng = np.random.default_rng(1)
    i = np.arange(count)
    height = 100 + rng.uniform(-3, 3, count)
    return np.stack([20.0 * (i % 8), 20.0 * (i // 8), height], axis=1)


def write_model(folder: Path, enu: np.ndarray) -> Path:
    """Write a model, in a frame of its own, of cameras at positions in metres."""
    folder.mkdir(parents=True)
    turn, shift = Rotation.from_euler("xyz", [40, -70, 130], degrees=True), [3.0, -4.0, 50.0]
    centers = turn.inv().apply((enu - shift) / SCALE)
    facing = Rotation.random(len(enu), random_state=0)
    lines = []
    for i, (rotation, center) in enumerate(zip(facing, centers, strict=True)):
        x, y, z, w = rotation.as_quat()
        translation = " ".join(map(repr, (-rotation.apply(center)).tolist()))
        lines.append(f"{i + 1} {w} {x} {y} {z} {translation} 1 {i:03}.jpg\n\n")
    (folder / "cameras.txt").write_text("1 PINHOLE 48 32 40 40 24 16\n")
    (folder / "images.txt").write_text("".join(lines))
    (folder / "points3D.txt").write_text("")
    return folder


def write_photos(folder: Path, enu: np.ndarray, altitude: bool = True, **kwargs: float) -> Path:
    for i, (latitude, longitude, height) in enumerate(wgs84_from_enu(enu, ORIGIN)):
        above = height if altitude else None
        write_photo(folder / f"{i:03}.jpg", latitude, longitude, above, **kwargs)
    return folder


def centers_in_metres(output: Path, report: dict) -> np.ndarray:
    """Centres of the model's cameras in the frame of ORIGIN."""
    model = colmap.read_model(output)
    poses = colmap.poses_of(model)
    origin = np.array([report["origin"][k] for k in ("latitude", "longitude", "altitude")])
    between = georeference.enu_from_wgs84(origin[None], ORIGIN)[0]
    return np.array([poses[name].center for name in sorted(poses)]) + between


def test_exact_positions_give_the_exact_model(tmp_path: Path) -> None:
    truth = flight()
    model = write_model(tmp_path / "model", truth)
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    report = georeference.main(model, write_photos(tmp_path / "p", truth), tmp_path / "out")
    assert report["positions"] == report["inliers"] == 40
    assert report["scale"] == pytest.approx(SCALE, rel=1e-5)
    assert report["median_horizontal"] <= 0.005
    assert report["median_vertical"] <= 0.005
    assert report["tilt"] < 0.01
    # The frames of two origins 100 m apart are turned against each other by 1 / 60,000.
    errors = centers_in_metres(tmp_path / "out", report) - truth
    assert np.abs(errors).max() < 0.01
    assert json.loads((tmp_path / "out" / "georeference.json").read_text()) == report
    assert before == {path.name: path.read_bytes() for path in model.iterdir()}


def test_residuals_are_as_large_as_the_noise(tmp_path: Path) -> None:
    truth, noise = flight(), np.random.default_rng(2).normal(0, 1.5, (40, 3))
    model = write_model(tmp_path / "model", truth)
    report = georeference.main(model, write_photos(tmp_path / "p", truth + noise), tmp_path / "out")
    photos = report["photos"].values()
    square = np.mean([p["horizontal"] ** 2 + p["vertical"] ** 2 for p in photos]) / 3
    expected = 1.5 * np.sqrt((3 * 40 - 7) / (3 * 40))
    assert np.sqrt(square) == pytest.approx(expected, rel=0.15)
    assert report["inliers"] >= 38
    # 7 unknowns of 120 equations: the model is four times as good as the positions.
    errors = centers_in_metres(tmp_path / "out", report) - truth
    assert np.sqrt((errors**2).mean()) < 1.5 * 1.5 * np.sqrt(7 / 120)


def test_outliers_are_named_and_do_no_harm(tmp_path: Path) -> None:
    truth, rng = flight(), np.random.default_rng(3)
    given = truth + rng.normal(0, 0.5, truth.shape)
    wrong = sorted(rng.choice(40, 14, replace=False))
    given[wrong] += rng.normal(0, 150, (14, 3))
    model = write_model(tmp_path / "model", truth)
    report = georeference.main(model, write_photos(tmp_path / "p", given), tmp_path / "out")
    assert [n for n, p in report["photos"].items() if not p["inlier"]] == [
        f"{i:03}.jpg" for i in wrong
    ]
    errors = centers_in_metres(tmp_path / "out", report) - truth
    assert np.abs(errors).max() < 0.6


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 1000), st.integers(0, 2**32 - 1), st.integers(3, 60))
def test_any_similarity_is_found(scale: float, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1, (count, 3))
    rotation, shift = Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 100, 3)
    found = georeference.estimate(centers, scale * centers @ rotation.T + shift)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-6)
    assert found.inliers.all()


def refused(tmp_path: Path, model: np.ndarray, gps: np.ndarray, **kwargs: bool) -> str:
    folder = write_model(tmp_path / "model", model)
    with pytest.raises(DiskHlocError) as error:
        georeference.main(folder, write_photos(tmp_path / "p", gps, **kwargs), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert one_line_error(error, folder, "cannot be georeferenced")
    return str(error.value)


def test_photos_in_a_line_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    line = np.linspace(0, 100, 12)[:, None] * [0.6, 0.8, 0.02] + rng.normal(0, 0.3, (12, 3))
    assert "nearly in a line" in refused(tmp_path, line, line + rng.normal(0, 3, (12, 3)))


def test_photos_at_one_place_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    place = rng.normal(0, 1, (12, 3))
    assert "do not fit it" in refused(tmp_path, place, rng.normal(0, 4, (12, 3)))


def test_positions_of_other_photos_are_refused(tmp_path: Path) -> None:
    truth = flight()
    assert "do not fit it" in refused(
        tmp_path, truth, np.random.default_rng(6).permutation(truth, axis=0)
    )


def test_two_positions_are_too_few(tmp_path: Path) -> None:
    said = refused(tmp_path, flight(), flight()[:2])
    assert "2 of its 40 photos" in said


def test_without_altitudes_there_are_no_positions(tmp_path: Path) -> None:
    said = refused(tmp_path, flight(), flight(), altitude=False)
    assert "0 of its 40 photos" in said
    assert "40 more have one without altitude" in said


def test_three_photos_need_the_precision_that_they_state(tmp_path: Path) -> None:
    """Nothing else tells how far three positions can be trusted."""
    truth = np.array([[0, 0, 0], [12, 0, 1], [3, 9, 0.0]])
    model = write_model(tmp_path / "model", truth)
    with pytest.raises(DiskHlocError, match="nearly in a line or at one place"):
        georeference.main(model, write_photos(tmp_path / "p", truth), tmp_path / "out")
    photos = write_photos(tmp_path / "p", truth, precision=0.05)
    assert georeference.main(model, photos, tmp_path / "out")["inliers"] == 3


def test_the_model_itself_is_not_replaced(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", flight())
    with pytest.raises(DiskHlocError) as error:
        georeference.main(model, write_photos(tmp_path / "p", flight()), model)
    assert one_line_error(error, model, "give another folder")
