"""From a COLMAP model to a data set: a rendered scene with ground truth in COLMAP's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.dataset import from_colmap
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.outputs import MANIFEST
from disk_hloc.io.training.depth_maps import read_depth_map
from support.errors import one_line_error
from support.training_data import SIZE, read_views, write_depth_map, write_model

ALL = (0.01, 1.0)


@pytest.fixture
def photos(drawn: Path) -> Path:
    return drawn / "train" / "train_0000" / "images"


@pytest.fixture
def workspace(drawn: Path, tmp_path: Path) -> Path:
    """The files that COLMAP's undistorter and stereo write."""
    write_model(drawn, tmp_path / "dense" / "sparse")
    for view in read_views(drawn / "train" / "dataset.json"):
        path = tmp_path / "dense" / "stereo" / "depth_maps" / f"{view.name}.geometric.bin"
        write_depth_map(path, view.depth)
    return tmp_path / "dense"


def test_a_dense_workspace_gives_the_rendered_data_set(
    drawn: Path, photos: Path, workspace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    target = from_colmap.main(workspace / "sparse", photos, out, within=ALL)
    ((name, scene),) = json.loads(target.read_text()).items()
    assert name == "out"
    assert scene["image_path"] == str(photos)
    assert scene["images"] == [f"{i:04d}.jpg" for i in range(6)]
    assert len(scene["tuples"]) == 20
    truth = read_views(drawn / "train" / "dataset.json")
    for view, true in zip(read_views(target), truth, strict=True):
        assert (view.matrix.dtype, view.matrix.shape) == (np.float32, (3, 3))
        assert (view.rotation.dtype, view.translation.dtype) == (np.float64, np.float64)
        np.testing.assert_allclose(view.matrix, true.matrix, atol=1e-4)
        np.testing.assert_allclose(view.pose, true.pose, atol=1e-9)
        np.testing.assert_array_equal(view.depth, true.depth)
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(workspace / "sparse", photos, out, within=ALL)
    assert one_line_error(error, target, "--overwrite")
    # Overwriting without depth removes all earlier files.
    from_colmap.main(
        workspace / "sparse", photos, out, within=ALL, with_depth=False, size=2, limit=4,
        name="two", overwrite=True,
    )  # fmt: skip
    scene = json.loads(target.read_text())["two"]
    assert "depth_path" not in scene
    assert not (out / "depth").exists()
    assert [len(one) for one in scene["tuples"]] == [2] * 4
    # An interrupted run does not leave a data set behind.
    (workspace / "stereo" / "depth_maps" / "0005.jpg.geometric.bin").write_bytes(b"192&144&1&")
    with pytest.raises(DiskHlocError):
        from_colmap.main(workspace / "sparse", photos, out, within=ALL, overwrite=True)
    assert not target.exists()


def test_tuples_are_those_that_share_points_of_the_model(
    photos: Path, workspace: Path, tmp_path: Path
) -> None:
    model = pycolmap.Reconstruction(workspace / "sparse")
    seen = {
        image.name: {p.point3D_id for p in image.points2D if p.has_point3D()}
        for image in model.images.values()
    }
    target = from_colmap.main(
        workspace / "sparse", photos, tmp_path / "out", within=(0.45, 0.85), size=2, limit=1000
    )
    scene = next(iter(json.loads(target.read_text()).values()))
    found = {tuple(scene["images"][i] for i in one) for one in scene["tuples"]}
    expected = {
        (a, b)
        for a in seen
        for b in seen
        if a < b and 0.45 <= len(seen[a] & seen[b]) / min(len(seen[a]), len(seen[b])) <= 0.85
    }
    assert found == expected
    assert 0 < len(expected) < 15


def test_distorted_photos_are_undistorted_with_their_camera(
    drawn: Path, photos: Path, tmp_path: Path
) -> None:
    focal, k = 140.0, -0.15
    center = np.array(SIZE) / 2

    def distort(pixels: np.ndarray) -> np.ndarray:
        ray = (pixels - center) / focal
        return center + focal * ray * (1 + k * (ray**2).sum(axis=-1, keepdims=True))

    camera = f"SIMPLE_RADIAL {SIZE[0]} {SIZE[1]} {focal} {center[0]} {center[1]} {k}"
    model = write_model(drawn, tmp_path / "model", camera, distort)
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(model, photos, tmp_path / "o", with_depth=False, undistort=False)
    assert one_line_error(error, model, "SIMPLE_RADIAL", "image_undistorter")
    target = from_colmap.main(model, photos, tmp_path / "out", within=ALL, with_depth=False)
    scene = json.loads(target.read_text())["out"]
    assert scene["image_path"] == "undistorted/images"
    assert sorted(path.name for path in target.parent.iterdir()) == [
        MANIFEST,
        "calibration",
        "dataset.json",
        "undistorted",
    ]
    for view in read_views(target):
        flat = cv2.imread(str(target.parent / "undistorted" / "images" / view.name), 0)
        bent = cv2.imread(str(photos / view.name), 0)
        row, column = np.mgrid[: flat.shape[0], : flat.shape[1]]
        pixels = np.stack([column, row], axis=-1) + 0.5
        ray = (pixels - view.matrix[:2, 2]) / (view.matrix[0, 0], view.matrix[1, 1])
        in_bent = distort(center + focal * ray) - 0.5
        expected = cv2.remap(bent, in_bent.astype(np.float32), None, cv2.INTER_LINEAR)
        moved = cv2.remap(bent, (in_bent + 0.5).astype(np.float32), None, cv2.INTER_LINEAR)
        inside = ((in_bent > 1) & (in_bent < np.array(SIZE) - 2)).all(axis=-1)
        exact = cv2.absdiff(flat, expected)[inside].mean()
        # The loss of JPEG alone; an offset of half a pixel would exceed it.
        assert exact < 3
        assert cv2.absdiff(flat, moved)[inside].mean() > 2 * exact


def test_zero_distortion_is_not_undistorted(drawn: Path, photos: Path, tmp_path: Path) -> None:
    camera = f"OPENCV {SIZE[0]} {SIZE[1]} 140 141 96 72 0 0 0 0"
    model = write_model(drawn, tmp_path / "model", camera)
    target = from_colmap.main(model, photos, tmp_path / "out", within=ALL, with_depth=False)
    expected = [[140, 0, 96], [0, 141, 72], [0, 0, 1]]
    np.testing.assert_array_equal(read_views(target)[0].matrix, expected)


def test_errors_name_what_does_not_fit_and_the_option_to_use(
    drawn: Path, photos: Path, workspace: Path, tmp_path: Path
) -> None:
    sparse, out = workspace / "sparse", tmp_path / "out"
    few = tmp_path / "few"
    few.mkdir()
    for path in photos.iterdir():
        (few / path.name).write_bytes(path.read_bytes())
    (few / "0003.jpg").unlink()
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(sparse, few, out)
    assert one_line_error(error, few, "1 of the 6", "0003.jpg", "names in the model")
    cv2.imwrite(str(few / "0003.jpg"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(sparse, few, out)
    assert one_line_error(error, few / "0003.jpg", "20 x 10", "192 x 144")
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(write_model(drawn, tmp_path / "alone"), photos, out)
    assert one_line_error(error, tmp_path / "alone", "--depth", "--no-depth")
    bent = write_model(drawn, tmp_path / "bent", "RADIAL 192 144 140 96 72 0.1 0")
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(bent, photos, out, depth=workspace / "stereo" / "depth_maps")
    assert one_line_error(error, bent, "RADIAL", "dense workspace", "--no-depth")
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(sparse, photos, out, within=(0.99, 1.0), depth=workspace)
    assert one_line_error(error, "patch_match_stereo")
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(sparse, photos, out, within=(0.99, 1.0))
    assert one_line_error(error, "no tuple of 3 of the 6 images")
    assert not out.exists()
    maps = workspace / "stereo" / "depth_maps"
    whole = (maps / "0001.jpg.geometric.bin").read_bytes()
    (maps / "0001.jpg.geometric.bin").write_bytes(whole[:-4])
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(sparse, photos, out, within=ALL)
    assert one_line_error(error, "0001.jpg.geometric.bin", "not a whole depth map", "stereo again")
    assert not (out / "dataset.json").exists()
    write_depth_map(maps / "0001.jpg.geometric.bin", np.ones((144, 144), np.float32))
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(sparse, photos, out, within=ALL)
    assert one_line_error(error, "0001.jpg.geometric.bin", "144 x 144", "192 x 144")


def test_files_of_the_user_stay(photos: Path, workspace: Path, tmp_path: Path) -> None:
    mine = [tmp_path / "out" / name for name in ("depth/lidar.txt", "calibration/rig.yaml")]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    for with_depth in (True, False):
        from_colmap.main(
            workspace / "sparse", photos, tmp_path / "out", within=ALL, with_depth=with_depth,
            overwrite=True,
        )  # fmt: skip
        assert [path.read_text() for path in mine] == ["mine", "mine"]
        assert len(list((tmp_path / "out" / "calibration").glob("*.h5"))) == 6
        assert len(list((tmp_path / "out" / "depth").glob("*.h5"))) == (6 if with_depth else 0)


def test_a_file_of_the_user_is_not_replaced(photos: Path, workspace: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "depth" / "0003.h5"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (tmp_path / "out" / "dataset.json").write_text("mine")
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(workspace / "sparse", photos, mine.parents[1], within=ALL, overwrite=True)
    assert one_line_error(error, mine, "remove it, or give another folder")
    assert mine.read_text() == (tmp_path / "out" / "dataset.json").read_text() == "mine"
    assert not (tmp_path / "out" / "calibration").exists()


def test_a_data_set_is_not_made_of_itself(photos: Path, workspace: Path, tmp_path: Path) -> None:
    undistorted = shutil.copytree(photos, tmp_path / "out" / "undistorted" / "images")
    with pytest.raises(DiskHlocError) as error:
        from_colmap.main(
            workspace / "sparse", undistorted, tmp_path / "out", within=ALL, with_depth=False
        )
    assert one_line_error(error, undistorted, "give another folder")
    assert len(list(undistorted.iterdir())) == 6


def test_a_photo_beyond_pillows_own_limit(
    photos: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    from_colmap.main(workspace / "sparse", photos, tmp_path / "out", within=ALL)


def test_a_photo_without_depth_is_left_out(
    photos: Path, workspace: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (workspace / "stereo" / "depth_maps" / "0002.jpg.geometric.bin").unlink()
    target = from_colmap.main(workspace / "sparse", photos, tmp_path / "out", within=ALL)
    images = json.loads(target.read_text())["out"]["images"]
    assert images == [f"{i:04d}.jpg" for i in (0, 1, 3, 4, 5)]
    assert "1 of 6 images, which have no depth map" in caplog.text


def test_a_smaller_depth_map_is_resized_to_the_photo(
    drawn: Path, photos: Path, workspace: Path, tmp_path: Path
) -> None:
    true = read_views(drawn / "train" / "dataset.json")[0]
    small = np.ascontiguousarray(true.depth[1::3, 1::3])
    write_depth_map(workspace / "stereo" / "depth_maps" / "0000.jpg.geometric.bin", small)
    target = from_colmap.main(workspace / "sparse", photos, tmp_path / "out", within=ALL)
    np.testing.assert_array_equal(
        read_views(target)[0].depth, np.kron(small, np.ones((3, 3), np.float32))
    )


@pytest.mark.skipif(not hasattr(pycolmap, "DepthMap"), reason="needs pycolmap 4")
def test_depth_maps_are_read_as_colmap_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.geometric.bin"
    write_depth_map(path, np.arange(1, 36, dtype=np.float32).reshape(5, 7))
    theirs = pycolmap.DepthMap()
    theirs.read(path)
    np.testing.assert_array_equal(read_depth_map(path), theirs.to_array())
    write_depth_map(path, np.array([[np.nan, -1, 2, np.inf]], np.float32))
    np.testing.assert_array_equal(read_depth_map(path), [[0, 0, 2, 0]])
    path.write_bytes(b"P6 7 5")
    with pytest.raises(DiskHlocError, match="not a depth map"):
        read_depth_map(path)


def test_the_command(photos: Path, workspace: Path, tmp_path: Path) -> None:
    arguments = ["dataset", "from-colmap", str(workspace / "sparse"), str(photos)]
    arguments += [str(tmp_path / "out"), "--covisible", "0.01", "1", "--name", "room"]
    arguments += ["--tuple-size", "4", "--max-tuples", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    scene = json.loads((tmp_path / "out" / "dataset.json").read_text())["room"]
    assert [len(one) for one in scene["tuples"]] == [4, 4, 4]
    refused = CliRunner().invoke(app, [*arguments, "--no-depth", "--depth", str(workspace)])
    assert isinstance(refused.exception, DiskHlocError)
