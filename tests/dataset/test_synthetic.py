"""The rendered data set: depth, poses and calibration agree with the photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disk_hloc.dataset import synthetic
from disk_hloc.errors import DiskHlocError
from disk_hloc.synthetic_room import Quad, Scene
from support.errors import one_line_error
from support.training_data import SIZE, View, read_views


def bilinear(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Interpolate between pixels; (0.5, 0.5) is the centre of the first pixel."""
    x, y = np.moveaxis(xy - 0.5, -1, 0)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    column, row = np.clip(column, 0, SIZE[0] - 2), np.clip(row, 0, SIZE[1] - 2)
    right, down = x - column, y - row
    top = (1 - right) * image[row, column] + right * image[row, column + 1]
    bottom = (1 - right) * image[row + 1, column] + right * image[row + 1, column + 1]
    return (1 - down) * top + down * bottom


def reproject(a: View, b: View, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project (N, 2) pixels of a to b, and return their depth in b, from K, R, T and a's depth."""
    column, row = pixels.T
    rays = np.linalg.solve(a.matrix, np.stack([column + 0.5, row + 0.5, np.ones(len(pixels))]))
    world = a.rotation.T @ (rays * a.depth[row, column] - a.translation[:, None])
    in_b = b.rotation @ world + b.translation[:, None]
    return (b.matrix @ in_b)[:2].T / in_b[2][:, None], in_b[2]


@pytest.fixture(scope="module")
def views(drawn: Path) -> list[View]:
    return read_views(drawn / "train" / "dataset.json")


def test_scenes_for_training_and_validation_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wall(seed: int) -> Scene:
        texture = np.random.default_rng(seed).integers(0, 256, (40, 64, 3), dtype=np.uint8)
        u, v = np.array([12.0, 0, 0]), np.array([0, 0, -8.0])
        return Scene((Quad("wall", np.array([-3.0, 5, 5]), u, v, texture, "wall"),))

    monkeypatch.setattr(synthetic, "make_room", wall)
    options = {"photos": 4, "image_size": (96, 64), "within": (0.01, 1.0), "seed": 3}
    synthetic.main(tmp_path, scenes=2, validation_scenes=2, **options)
    photos = set()
    for split in ("train", "test"):
        scenes = json.loads((tmp_path / split / "dataset.json").read_text())
        assert list(scenes) == [f"{split}_0000", f"{split}_0001"]
        for name, scene in scenes.items():
            assert set(scene) == {"image_path", "calib_path", "depth_path", "images", "tuples"}
            assert scene["images"] == [f"{i:04d}.jpg" for i in range(4)]
            assert scene["tuples"] == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
            for key in ("image_path", "calib_path", "depth_path"):
                assert (tmp_path / split / scene[key]).is_dir()
            files = [path.name for path in (tmp_path / split / name / "depth").iterdir()]
            assert sorted(files) == [f"{i:04d}.h5" for i in range(4)]
            photos |= {path.read_bytes() for path in (tmp_path / split / name).glob("images/*")}
    assert len(photos) == 16
    # Rendering more scenes does not change the existing ones.
    before = (tmp_path / "test" / "test_0001" / "images" / "0000.jpg").read_bytes()
    synthetic.main(tmp_path, scenes=3, validation_scenes=2, **options)
    assert (tmp_path / "test" / "test_0001" / "images" / "0000.jpg").read_bytes() == before
    assert len(json.loads((tmp_path / "train" / "dataset.json").read_text())) == 3
    synthetic.main(
        tmp_path, scenes=1, validation_scenes=1, **{**options, "seed": 4}, overwrite=True
    )
    assert (tmp_path / "test" / "test_0000" / "images" / "0000.jpg").read_bytes() not in photos
    assert not (tmp_path / "test" / "test_0001").exists()


def test_the_files_are_those_of_the_release(views: list[View]) -> None:
    for view in views:
        assert (view.matrix.dtype, view.matrix.shape) == (np.float32, (3, 3))
        assert (view.rotation.dtype, view.rotation.shape) == (np.float64, (3, 3))
        assert (view.translation.dtype, view.translation.shape) == (np.float64, (3,))
        assert (view.depth.dtype, view.depth.shape) == (np.float32, SIZE[::-1])
        np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-9)
        assert (view.depth > 0.2).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pair=st.permutations(range(6)), seed=st.integers(0, 2**32 - 1))
def test_a_point_is_at_the_same_depth_for_both_views_between_pixels(
    views: list[View], pair: list[int], seed: int
) -> None:
    a, b = views[pair[0]], views[pair[1]]
    pixels = np.random.default_rng(seed).integers(0, SIZE, (400, 2))
    xy, depth = reproject(a, b, pixels)
    inside = (xy > 1).all(axis=1) & (xy < np.array(SIZE) - 1).all(axis=1) & (depth > 0)
    # On a plane the inverse depth is affine in the pixel, so interpolation is exact.
    there = 1 / bilinear(1 / b.depth, xy[inside])
    error = np.abs(there / depth[inside] - 1)
    visible = error < 0.02
    if visible.sum() < 50:
        return
    # With a principal point half a pixel off, the median is above 3e-4. Other depths only mix in
    # next to the outlines of objects, in up to a quarter of the points.
    assert np.median(error[visible]) < 1e-6
    assert (error[visible] < 1e-4).mean() > 0.5


def test_colours_agree_at_the_projected_points_and_not_nearby(
    drawn: Path, views: list[View]
) -> None:
    folder = drawn / "train" / "train_0000" / "images"
    photos = [
        cv2.GaussianBlur(cv2.imread(str(folder / view.name), 0), (0, 0), 0.7).astype(np.float32)
        for view in views
    ]
    row, column = np.mgrid[4 : SIZE[1] - 4, 4 : SIZE[0] - 4]
    pixels = np.column_stack([column.ravel(), row.ravel()])
    found = {}
    for shift in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]:
        differences = []
        for i in range(5):
            a, b = views[i], views[i + 1]
            xy, depth = reproject(a, b, pixels)
            inside = (xy > 3).all(axis=1) & (xy < np.array(SIZE) - 3).all(axis=1)
            seen = np.abs(bilinear(b.depth, xy[inside]) / depth[inside] - 1) < 0.01
            column, row = pixels[inside][seen].T
            there = bilinear(photos[i + 1], xy[inside][seen] + shift)
            differences.append(np.abs(photos[i][row, column] - there))
        found[shift] = np.concatenate(differences).mean()
    exact = found.pop((0, 0))
    # A parabola through three differences has its minimum within a third of a pixel.
    assert exact < 0.75 * min(found.values())
    for axis in ((1, 0), (0, 1)):
        left, right = found[-axis[0], -axis[1]], found[axis]
        assert abs(left - right) / (left + right - 2 * exact) / 2 < 0.33


def test_existing_scenes_are_kept_and_other_options_are_refused(drawn: Path) -> None:
    photo = drawn / "train" / "train_0000" / "images" / "0000.jpg"
    before = photo.stat().st_mtime_ns
    options = {"scenes": 1, "validation_scenes": 0, "photos": 6, "image_size": SIZE}
    synthetic.main(drawn, **options, within=(0.4, 0.9))
    assert photo.stat().st_mtime_ns == before
    with pytest.raises(DiskHlocError) as error:
        synthetic.main(drawn, **{**options, "photos": 7})
    assert one_line_error(error, drawn / "t", "photos 6, now 7", "--overwrite")
    with pytest.raises(DiskHlocError) as error:
        synthetic.main(drawn, **options, within=(0.99, 1.0))
    assert one_line_error(error, "train_0000", "another range", "more photos")
    with pytest.raises(DiskHlocError) as error:
        synthetic.main(drawn, **{**options, "photos": 2})
    assert one_line_error(error, "as many photos as in a tuple")
    assert photo.stat().st_mtime_ns == before


def test_an_interrupted_scene_is_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "make_room", lambda seed: None)
    monkeypatch.setattr(synthetic, "write_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        synthetic.main(tmp_path, scenes=1, photos=4, image_size=SIZE)
    assert not (tmp_path / "train" / "train_0000").exists()
    assert not (tmp_path / "train" / "dataset.json").exists()


def test_only_what_was_drawn_is_replaced(tmp_path: Path) -> None:
    options: dict[str, Any] = {"scenes": 1, "validation_scenes": 0, "photos": 4}
    options |= {"image_size": (64, 48), "within": (0.01, 1.0), "size": 2}
    synthetic.main(tmp_path, **options)
    scene = tmp_path / "train" / "train_0000"
    other, within = tmp_path / "train" / "mine" / "a.txt", scene / "images" / "b.txt"
    other.parent.mkdir()
    for path in (other, within):
        path.write_text("mine")
    with pytest.raises(DiskHlocError) as error:
        synthetic.main(tmp_path, **options, overwrite=True)
    assert one_line_error(error, within, "was not written here")
    assert (tmp_path / "train" / "dataset.json").exists()
    within.unlink()
    synthetic.main(tmp_path, **{**options, "photos": 3}, overwrite=True)
    assert other.read_text() == "mine"
    assert len(list((scene / "images").iterdir())) == 3


def test_a_folder_of_the_user_is_not_taken_for_a_scene(tmp_path: Path) -> None:
    mine = tmp_path / "train" / "train_0000" / "images" / "0000.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DiskHlocError) as error:
            synthetic.main(tmp_path, scenes=1, photos=4, image_size=(64, 48), overwrite=overwrite)
        assert one_line_error(error, mine.parents[1], "was not drawn here")
    assert mine.read_text() == "mine"
