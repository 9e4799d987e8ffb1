"""HEIC and AVIF photos, and TIFF that OpenCV does not decode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.features
import pytest
from PIL import ExifTags, Image

from disk_hloc.io import images
from disk_hloc.io.exif import read_exif
from disk_hloc.io.heif import is_avif, is_heic, register_heic
from disk_hloc.io.images import ImageReadError, image_size, list_images, read_image

LIMIT = 10.0  # mean difference of a lossy copy, of 255

pytestmark = pytest.mark.skipif(not register_heic(), reason="needs pillow-heif")
needs_avif = pytest.mark.skipif(not PIL.features.check("avif"), reason="Pillow without AVIF")


@pytest.fixture
def photo(sacre_coeur: Path) -> Image.Image:
    with Image.open(min(sacre_coeur.glob("*.jpg"))) as image:
        return image.convert("RGB").resize((96, 64))


def write(path: Path, photo: Image.Image, orientation: int = 1) -> Path:
    register_heic()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (46.0, 30.0, 0.0), 3: "E", 4: (8, 0, 0)})
    photo.save(path, exif=exif.tobytes())
    return path


def test_heic_is_read_upright_and_never_turned_twice(tmp_path: Path, photo: Image.Image) -> None:
    """pillow-heif writes the EXIF orientation as a turn of the container."""
    path = write(tmp_path / "IMG_1.HEIC", photo, orientation=6)
    found = read_image(path)
    upright = np.rot90(np.asarray(photo), 3)
    assert found.shape == (96, 64, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - upright).mean() < LIMIT
    assert read_image(path, grayscale=True).shape == (96, 64)
    assert image_size(path) == (64, 96)
    exif = read_exif(path)
    assert exif.quarter_turns == 0
    assert exif.position is not None
    assert exif.position.latitude == 46.5


@needs_avif
def test_avif_is_read_as_stored_and_its_turn_reported(tmp_path: Path, photo: Image.Image) -> None:
    path = write(tmp_path / "a.AVIF", photo, orientation=6)
    found = read_image(path)
    assert np.abs(found.astype(int) - np.asarray(photo)).mean() < LIMIT
    assert image_size(path) == (96, 64)
    assert read_exif(path).quarter_turns == 3


@needs_avif
def test_avif_without_a_decoder_of_opencv(
    tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.avif", photo)
    decoded = read_image(path)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)  # as a build without it returns
    by_pillow = read_image(path)
    assert np.abs(decoded.astype(int) - by_pillow).mean() < LIMIT


def test_suffixes_of_any_case_are_listed(tmp_path: Path) -> None:
    names = ["A.HEIC", "b.heif", "c.HIF", "d.Avif"]
    for name in names:
        (tmp_path / name).touch()
    assert list_images(tmp_path) == names


def test_without_the_decoder_the_photo_is_named_with_what_to_install(
    tmp_path: Path, photo: Image.Image
) -> None:
    write(tmp_path / "a.heic", photo)
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from disk_hloc.io import images; from pathlib import Path\n"
        "for read in images.read_image, images.image_size:\n"
        "    try: read(Path(sys.argv[1]))\n"
        "    except images.ImageReadError as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.heic")], capture_output=True, text=True
    )
    assert ran.stdout.count('pip install "disk_hloc[heic]"') == 2, ran.stderr


@pytest.mark.parametrize("kept", [20, 300, 0.5, 0.95])
def test_a_cut_heic_is_refused(tmp_path: Path, photo: Image.Image, kept: float) -> None:
    path = write(tmp_path / "a.heic", photo)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    with pytest.raises(ImageReadError, match="truncated, or not an image"):
        read_image(path)


def test_a_heic_of_too_many_pixels_is_refused(
    tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.heic", photo)
    monkeypatch.setenv(images.LIMIT_VARIABLE, "6000")
    with pytest.raises(ImageReadError, match="exceed the limit of 6000 pixels"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_of_32_bits_are_refused_with_the_reason(
    tmp_path: Path, dtype: type, channels: int
) -> None:
    pixels = np.full((8, 9, channels), 100, dtype)
    assert cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    with pytest.raises(ImageReadError, match=r"32 bits a sample.*convert it to 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_tiff_of_a_compression_that_opencv_lacks(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "a.tif", compression="lzma")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.asarray(photo))


@pytest.mark.parametrize(
    ("start", "heic", "avif"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", True, False),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", True, False),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", False, True),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B", False, True),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  heic", False, False),  # brands end before it
        (b"\0\0\0\x14ftypmp42\0\0\0\0mp42", False, False),
        (b"\0\0\0\x18ftyp", False, False),
        (b"", False, False),
    ],
)
def test_brands_tell_what_a_file_is(start: bytes, heic: bool, avif: bool) -> None:
    assert (is_heic(start), is_avif(start)) == (heic, avif)
