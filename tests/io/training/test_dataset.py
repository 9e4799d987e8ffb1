"""Reading data sets in the format of DISK's release."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.training.dataset import fitted_size, read_training_image, read_training_set
from support.errors import one_line_error

MATRIX = np.array([[100.0, 0, 32], [0, 110, 24], [0, 0, 1]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scene of two images, one without a suffix in its name as in the challenge's files."""
    root = tmp_path / "set"
    for name in ("images", "calib", "depth"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, calibration in (("a.jpg", "calibration_a.jpg.h5"), ("b", "calibration_b.h5")):
        photo = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "images" / f"{name[0]}.jpg"), photo)
        with h5py.File(root / "calib" / calibration, "w") as file:
            file["K"], file["R"], file["T"] = MATRIX, np.eye(3), np.array([0.0, 0, 1])
        depth = np.full((24, 32), 2, np.float16)
        depth[:4] = 0
        with h5py.File(root / "depth" / f"{name[0]}.h5", "w") as file:
            file["depth"] = depth
    write(root)
    return root


def write(root: Path, **changes: Any) -> Path:
    scene = {
        "images": ["a.jpg", "b"],
        "tuples": [[0, 1]],
        "image_path": "images",
        "calib_path": "calib",
        "depth_path": "depth",
    }
    scene = {key: value for key, value in (scene | changes).items() if value is not None}
    path = root / "dataset.json"
    path.write_text(json.dumps({"one": scene}))
    return path


def test_a_scene_is_read(folder: Path) -> None:
    (scene,) = read_training_set(folder)
    assert (scene.name, scene.images) == ("one", ("a.jpg", "b"))
    assert scene.tuples.tolist() == [[0, 1]]
    assert scene.image_dir == folder / "images"
    assert read_training_set(folder / "dataset.json", depth=False)[0].depth_dir is None


def test_folders_may_be_absolute_or_relative_to_the_current_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, image_path=str(folder / "images"), calib_path="set/calib")
    monkeypatch.chdir(folder.parent)
    (scene,) = read_training_set(folder)
    assert scene.image_dir == folder / "images"
    assert scene.calibration_dir.resolve() == folder / "calib"


@pytest.mark.parametrize("index", [0, 1])
def test_a_photo_is_resized_and_padded_with_its_camera(folder: Path, index: int) -> None:
    (scene,) = read_training_set(folder)
    read = read_training_image(scene, index, (96, 96))
    assert read.image.shape == (3, 96, 96)
    assert read.image.dtype == np.float32
    assert read.size == (96, 72)
    assert read.image[:, :72].max() <= 1
    assert not read.image[:, 72:].any()
    # The corner of the image is at (0, 0) in K and at (-0.5, -0.5) in keypoints' pixels.
    expected = [[150, 0, 47.5], [0, 165, 35.5], [0, 0, 1]]
    np.testing.assert_allclose(read.matrix, expected, atol=1e-9)
    np.testing.assert_allclose(read.rotation, np.eye(3), atol=1e-12)
    assert read.translation.tolist() == [0, 0, 1]
    assert read.depth is not None
    assert read.depth.shape == (96, 96)
    # Known below the fourth of 24 rows, which are 3 px each now.
    assert np.isnan(read.depth[:12]).all()
    assert (read.depth[14:72] == 2).all()
    assert np.isnan(read.depth[72:]).all()


def test_the_interpolation_is_that_of_the_release(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    (scene,) = read_training_set(folder)
    photo = cv2.imread(str(folder / "images" / "a.jpg"))[:, :, ::-1].astype(np.float32) / 255
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(photo.copy()).permute(2, 0, 1)[None], size=(36, 48), mode="bilinear"
    )[0]
    found = read_training_image(scene, 0, (48, 48)).image[:, :36]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 2000))
def test_a_photo_fits_and_fills_one_side(width: int, height: int, right: int, low: int) -> None:
    w, h = fitted_size((width, height), (right, low))
    assert 1 <= w <= right
    assert 1 <= h <= low
    assert w == right or h == low


def test_nested_names(folder: Path) -> None:
    for kind, name in (("images", "a.jpg"), ("calib", "calibration_a.jpg.h5"), ("depth", "a.h5")):
        nested = "calibration_sub" if kind == "calib" else "sub"
        (folder / kind / nested).mkdir()
        shutil.copy(folder / kind / name, folder / kind / nested / name.replace("calibration_", ""))
    write(folder, images=["sub/a.jpg", "b"])
    (scene,) = read_training_set(folder)
    assert read_training_image(scene, 0, (64, 48)).size == (64, 48)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tuples": []}, "no tuples"),
        ({"tuples": [[0]]}, "no tuples"),
        ({"tuples": [[0, 2]]}, "a tuple"),
        ({"tuples": [[0, 1], [0, 1, 1]]}, "different sizes"),
        ({"tuples": "none"}, "tuples"),
        ({"images": None}, "images"),
        ({"depth_path": None}, "epipolar"),
        ({"image_path": "nowhere"}, "nowhere"),
    ],
)
def test_invalid_data_sets_are_errors(folder: Path, changes: dict[str, Any], said: str) -> None:
    path = write(folder, **changes)
    with pytest.raises(DiskHlocError) as error:
        read_training_set(folder)
    assert one_line_error(error, path, said)


@pytest.mark.parametrize("content", ["", "[]", "{", "7"])
def test_files_of_another_format_are_errors(folder: Path, content: str) -> None:
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DiskHlocError) as error:
        read_training_set(folder)
    assert one_line_error(error, folder / "dataset.json")


@pytest.mark.parametrize("path", ["images/a.jpg", "calib/calibration_a.jpg.h5", "depth/a.h5"])
@pytest.mark.parametrize("broken", [False, True])
def test_files_that_are_missing_or_broken_are_named(folder: Path, path: str, broken: bool) -> None:
    (scene,) = read_training_set(folder)
    if broken:
        (folder / path).write_bytes(b"no such thing")
    else:
        (folder / path).unlink()
    with pytest.raises(DiskHlocError) as error:
        read_training_image(scene, 0, (64, 48))
    assert one_line_error(error, Path(path).name)


def test_depth_of_another_shape_is_an_error(folder: Path) -> None:
    (scene,) = read_training_set(folder)
    with h5py.File(folder / "depth" / "a.h5", "w") as file:
        file["depth"] = np.zeros((1, 24, 32), np.float32)
    with pytest.raises(DiskHlocError) as error:
        read_training_image(scene, 0, (64, 48))
    assert one_line_error(error, "a.h5", "(1, 24, 32)")


def test_reading_needs_no_torch_model() -> None:
    source = sys.modules["disk_hloc.io.training.dataset"].__file__
    assert source is not None
    assert "torch" not in Path(source).read_text()
