"""COLMAP makes the same cameras of a photo in any format that we read."""

from __future__ import annotations

import io

import numpy as np
import PIL.features
import PIL.Image
import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import CAMERA_MODES, camera_mode, create_database
from disk_hloc.io.colmap.photos import readable_photos
from disk_hloc.io.heif import register_heic
from support.errors import one_line_error

FORMATS = ["WEBP", "GIF", "JPEG2000"]
FORMATS += ["AVIF"] if PIL.features.check("avif") else []
FORMATS += ["HEIF"] if register_heic() else []


def photo(path, size=(96, 64), form="JPEG", focal=28.0):
    exif = PIL.Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    exif.get_ifd(0x8769)[0xA405] = int(focal)  # in mm on 35 mm film
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, form, exif=exif.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.getvalue())


def cameras(folder, names, tmp_path, mode="auto"):
    """Image name -> camera, in the order of their ids, by COLMAP itself."""
    path = tmp_path / "d.db"
    path.unlink(missing_ok=True)
    with pycolmap.Database.open(path):
        pass
    pycolmap.import_images(path, folder, camera_mode(mode), image_names=names)
    with pycolmap.Database.open(path) as database:
        found = {i.name: database.read_camera(i.camera_id) for i in database.read_all_images()}
    return [
        (name, camera.camera_id, camera.model.name, camera.width, camera.height,
         list(camera.params), camera.has_prior_focal_length)
        for name, camera in sorted(found.items())
    ]  # fmt: skip


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_cameras_are_those_of_jpeg(tmp_path, mode):
    names = ["a/1.jpg", "a/2.webp", "a/3.jpg", "b/4.webp", "b/5.jpg"]
    sizes = [(96, 64)] * 5 if mode == "single" else [(96, 64)] * 4 + [(64, 96)]
    if mode == "per-folder":
        sizes = [(96, 64)] * 3 + [(64, 96)] * 2
    for name, size in zip(names, sizes, strict=True):
        photo(tmp_path / "jpeg" / name, size)
        photo(tmp_path / "mixed" / name, size, "WEBP" if name.endswith("webp") else "JPEG")
    expected = cameras(tmp_path / "jpeg", names, tmp_path, mode)
    assert all(camera[-1] for camera in expected)  # the focal length is that of the EXIF data
    with readable_photos(tmp_path / "mixed", names, tmp_path) as folder:
        assert folder != tmp_path / "mixed"
        assert cameras(folder, names, tmp_path, mode) == expected
    assert not folder.exists()


@pytest.mark.parametrize("form", FORMATS)
def test_formats_that_colmap_does_not_read_under_any_suffix(tmp_path, form):
    photo(tmp_path / "p" / "a.jpg", form=form)
    assert not cameras(tmp_path / "p", ["a.jpg"], tmp_path)
    with readable_photos(tmp_path / "p", ["a.jpg"], tmp_path) as folder:
        (camera,) = cameras(folder, ["a.jpg"], tmp_path)
    assert camera[3:5] == (96, 64)
    create_database(tmp_path / "d.db", tmp_path / "p", ["a.jpg"], "auto", None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "PPM"])
def test_other_photos_stay_where_they_are(tmp_path, form):
    photo(tmp_path / "p" / "a.png", form=form)
    with readable_photos(tmp_path / "p", ["a.png"], tmp_path) as folder:
        assert folder == tmp_path / "p"
    assert cameras(folder, ["a.png"], tmp_path)


def test_pixels_are_close_to_those_of_the_photo(tmp_path):
    path = tmp_path / "p" / "a.webp"
    path.parent.mkdir()
    gradient = np.stack(np.meshgrid(np.arange(128), np.arange(96), [50])[:2], axis=-1)[:, :, 0]
    pixels = np.dstack([gradient, np.full((96, 128), 90)]).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(path, lossless=True)
    with (
        readable_photos(path.parent, ["a.webp"], tmp_path) as folder,
        PIL.Image.open(folder / "a.webp") as copy,
    ):
        assert np.abs(np.asarray(copy).astype(int) - pixels).mean() < 2


def test_a_broken_photo_is_one_line(tmp_path):
    photo(tmp_path / "p" / "a.webp", form="WEBP")
    data = (tmp_path / "p" / "a.webp").read_bytes()
    (tmp_path / "p" / "a.webp").write_bytes(data[:100])
    with (
        pytest.raises(DiskHlocError) as error,
        readable_photos(tmp_path / "p", ["a.webp"], tmp_path),
    ):
        pass
    assert one_line_error(error, tmp_path / "p" / "a.webp")
    assert not list(tmp_path.glob(".photos*"))
