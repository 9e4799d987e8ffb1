"""release to-colmap, and the model that reconstruct --from-database makes from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import release
from disk_hloc.release.to_colmap import main
from disk_hloc.stages import reconstruct
from support.errors import one_line_error
from support.release_files import write_folder, write_photo

MATCHES = np.array([[0, 1, 2, 40], [3, 1, 0, 41]])


@pytest.fixture
def case(tmp_path: Path) -> SimpleNamespace:
    """Two photos of 128 x 96 px, resized to 96 x 72 px, and their files."""
    images = tmp_path / "images"
    images.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28  # FocalLengthIn35mmFilm
    write_photo(images / "a.jpg", (128, 96), exif=exif)
    write_photo(images / "b.jpg", (128, 96))
    rng = np.random.default_rng(0)
    resized = {name: rng.permutation(96 * 72)[:60] for name in "ab"}
    scale = np.float32(0.75)
    keypoints = {
        name: np.stack([i % 96, i // 96], axis=1).astype(np.float32) / scale
        for name, i in resized.items()
    }
    folder = write_folder(tmp_path / "h5", keypoints, {("a", "b"): MATCHES})
    return SimpleNamespace(
        images=images, folder=folder, keypoints=keypoints, database=tmp_path / "out.db"
    )


def read(path: Path) -> SimpleNamespace:
    with pycolmap.Database.open(path) as database:
        images = {image.name: image for image in database.read_all_images()}
        ids = [images[name].image_id for name in ("a.jpg", "b.jpg")]
        return SimpleNamespace(
            cameras=[database.read_camera(images[n].camera_id) for n in ("a.jpg", "b.jpg")],
            keypoints=[database.read_keypoints(i)[:, :2] for i in ids],
            matches=database.read_matches(*ids),
        )


def test_keypoints_are_where_colmap_has_them(case: SimpleNamespace) -> None:
    found = read(main(case.folder, case.images, database_path=case.database))
    for name, keypoints in zip("ab", found.keypoints, strict=True):
        # The centre of pixel n of the resized photo is at (n + 0.5) / 0.75 from the corner.
        n = np.round(case.keypoints[name] * 0.75)
        np.testing.assert_allclose(keypoints, (n + 0.5) / 0.75, atol=1e-4)
    np.testing.assert_array_equal(found.matches, MATCHES.T)


def test_release_origin_does_not_change_coordinates(case: SimpleNamespace) -> None:
    options = {"database_path": case.database, "release_origin": True}
    found = read(main(case.folder, case.images, **options))
    np.testing.assert_array_equal(found.keypoints[0], case.keypoints["a"])


def test_the_stored_pixel_size_has_priority(case: SimpleNamespace) -> None:
    with h5py.File(case.folder / "keypoints.h5", "a") as file:
        file["a"].attrs[release.PIXEL_SIZE_ATTRIBUTE] = 3.0
    found = read(main(case.folder, case.images, database_path=case.database))
    np.testing.assert_allclose(found.keypoints[0], case.keypoints["a"] + 1.5)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("simple-pinhole", [1, 64, 48]),
        ("pinhole", [1, 1, 64, 48]),
        ("simple-radial", [1, 64, 48, 0]),
    ],
)
def test_cameras_have_the_focal_length_of_exif_or_the_released_prior(case, model, params) -> None:
    path = main(case.folder, case.images, database_path=case.database, camera_model=model)
    known, guessed = read(path).cameras
    for camera, focal in ((known, 28 / 35 * 128), (guessed, 1.2 * 128)):
        assert camera.model.name == model.upper().replace("-", "_")
        expected = [focal if value == 1 else value for value in params]
        # COLMAP uses the width of the film, or its diagonal since version 4.
        np.testing.assert_allclose(camera.params, expected, rtol=0.02)
    assert known.has_prior_focal_length
    assert not guessed.has_prior_focal_length


def test_a_single_camera(case: SimpleNamespace) -> None:
    options = {"single_camera": True, "camera_model": "opencv"}
    cameras = read(main(case.folder, case.images, database_path=case.database, **options)).cameras
    assert cameras[0].camera_id == cameras[1].camera_id
    assert len(cameras[0].params) == 8


def test_masked_matches_are_removed_and_indices_are_kept(case: SimpleNamespace) -> None:
    masks = case.folder / "masks"
    masks.mkdir()
    keep = np.full((96, 128), 255, dtype=np.uint8)
    x, y = (case.keypoints["a"][MATCHES[0, 1]] + 1 / 6 + 0.5).astype(int)
    keep[y, x] = 0
    Image.fromarray(keep).save(masks / "a.jpg.png")
    options = {"database_path": case.database, "masks": {"folder": masks}}
    path = main(case.folder, case.images, **options)
    found = read(path)
    assert [len(keypoints) for keypoints in found.keypoints] == [60, 60]
    np.testing.assert_array_equal(found.matches, np.delete(MATCHES, 1, axis=1).T)


def test_a_database_is_not_overwritten(case: SimpleNamespace) -> None:
    case.database.write_text("mine")
    with pytest.raises(DiskHlocError) as error:
        main(case.folder, case.images, database_path=case.database)
    one_line_error(error, case.database, "--database-path")
    assert case.database.read_text() == "mine"


def test_errors_leave_no_database(case: SimpleNamespace) -> None:
    def fails(*parts: object, **options: object) -> None:
        with pytest.raises(DiskHlocError) as error:
            main(case.folder, case.images, database_path=case.database, **options)
        one_line_error(error, *parts)
        assert list(case.database.parent.glob("*.db*")) == []
        assert list(case.database.parent.glob(".*.db*")) == []

    fails("--single-camera", camera_model="opencv")
    fails("simple-pinhole, pinhole", camera_model="fisheye")
    fails("b.png", "--image-extension", image_extension="png")
    with h5py.File(case.folder / "matches.h5", "a") as file:
        file["a"]["b"][0, 0] = 60
    fails("matches.h5, a b", "other features")
    with h5py.File(case.folder / "matches.h5", "a") as file:
        file["a"]["absent"] = np.zeros((2, 0), int)
        del file["a"]["b"]
    fails("absent")
    write_photo(case.images / "b.jpg", (64, 96))
    fails("2 sizes", "--single-camera", single_camera=True)
    (case.images / "b.jpg").write_text("no image")
    fails(case.images / "b.jpg")


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(64, 6000), st.integers(64, 6000)),
    side=st.sampled_from([64, 512, 768, 1024, 1600]),
    count=st.integers(60, 400),
    seed=st.integers(0, 2**31),
)
def test_the_pixel_size_is_estimated_from_released_coordinates(size, side, count, seed) -> None:
    scale = 1 / max(size[0] / side, size[1] / side)
    fitted = [max(1, int(scale * length)) for length in size]
    n = np.random.default_rng(seed).integers(0, fitted, (count, 2))
    # Too few distinct coordinates are not enough; such photos are very narrow.
    if len(np.unique(n)) >= 40:
        spacing = release.grid_spacing(n.astype(np.float32) / np.float32(scale))
        assert spacing == pytest.approx(1 / scale, rel=1e-5)


def test_without_a_grid_the_pixel_size_is_one() -> None:
    rng = np.random.default_rng(0)
    assert release.grid_spacing(rng.uniform(0, 1000, (500, 2)).astype(np.float32)) == 1
    assert release.grid_spacing(rng.integers(0, 1000, (500, 2)).astype(np.float32)) == 1
    # hloc's keypoints of a photo with three times the size are at the centres of pixels.
    assert release.grid_spacing(rng.integers(0, 300, (500, 2)) * 3.0 + 1) == 1
    assert release.grid_spacing(np.zeros((0, 2))) == 1
    assert release.grid_spacing(np.zeros((100, 2))) == 1


def test_released_files_to_a_model(official: Path, sacre_coeur: Path, tmp_path: Path) -> None:
    database, out = tmp_path / "db.db", tmp_path / "out"
    run = CliRunner().invoke
    arguments = [str(official), str(sacre_coeur), "--database-path", str(database)]
    done = run(app, ["release", "to-colmap", *arguments])
    assert done.exit_code == 0, done.output
    before = database.read_bytes()
    arguments = [str(sacre_coeur), str(out), "--from-database", str(database)]
    done = run(app, ["reconstruct", *arguments])
    assert done.exit_code == 0, done.output
    assert "registered               10" in done.output
    model = pycolmap.Reconstruction(out / "sfm")
    assert model.num_reg_images() == 10
    assert model.num_points3D() > 1900
    assert model.compute_mean_reprojection_error() < 0.75
    assert database.read_bytes() == before
    for other in (["--pairs", "p.txt"], ["--camera-mode", "single"], ["--extractor", "disk-2k"]):
        done = run(app, ["reconstruct", *arguments, *other])
        one_line_error(SimpleNamespace(value=done.exception), "--from-database")


def test_databases_that_cannot_be_reconstructed(case: SimpleNamespace, tmp_path: Path) -> None:
    def fails(path: Path, *parts: object) -> None:
        with pytest.raises(DiskHlocError) as error:
            reconstruct.from_database(tmp_path / "sfm", case.images, path)
        one_line_error(error, *parts)

    fails(tmp_path / "absent.db", "absent.db")
    text = tmp_path / "text.db"
    text.write_text("no database " * 100)
    fails(text, text, "not a COLMAP database")
    path = main(case.folder, case.images, database_path=case.database)
    fails(path, "no model could be built")
    shutil.move(case.images / "b.jpg", tmp_path / "b.jpg")
    fails(path, "b.jpg", case.images)
    with pycolmap.Database.open(tmp_path / "empty.db"):
        pass
    fails(tmp_path / "empty.db", "no matches")
