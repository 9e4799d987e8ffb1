"""Unusual, broken and malicious image files."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io import images, loader
from disk_hloc.io.images import ImageReadError, image_size, list_images, read_image
from disk_hloc.io.loader import load_photo, read_ahead
from disk_hloc.io.masks import read_mask
from support.errors import one_line_error

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (30, 44, 3), dtype=np.uint8)
GRAY = RGB[:, :, 0]


def other() -> Image.Image:
    """Make a second, new image: Pillow stores in an image how it was last saved."""
    return Image.fromarray(255 - RGB)


def as_hloc(path: Path, mode: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(path), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    return image if mode == cv2.IMREAD_GRAYSCALE else image[:, :, ::-1]


def _palette(path: Path) -> None:
    Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE).save(path)


def _palette_alpha(path: Path) -> None:
    image = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    image.save(path, transparency=3)


def _rgba(path: Path) -> None:
    Image.fromarray(np.dstack([RGB, GRAY])).save(path, lossless=True)


def _deep(path: Path) -> None:
    cv2.imwrite(str(path), RNG.integers(0, 1 << 16, (30, 44, 3), dtype=np.uint16))


def _exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif)


def _pages(path: Path) -> None:
    Image.fromarray(RGB).save(path, save_all=True, append_images=[other()])


FORMATS = {
    "cmyk.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path),
    "ycck.jpg": lambda path: Image.fromarray(RGB).convert("CMYK").save(path, subsampling=2),
    "gray.jpg": lambda path: Image.fromarray(GRAY).save(path),
    "progressive.jpg": lambda path: Image.fromarray(RGB).save(path, progressive=True),
    "exif.jpg": _exif,
    "exif.png": _exif,
    "exif.webp": _exif,
    "deep.png": _deep,
    "deep.tif": _deep,
    "palette.png": _palette,
    "palette.bmp": _palette,
    "palette_alpha.png": _palette_alpha,
    "alpha.png": _rgba,
    "alpha.webp": _rgba,
    "alpha.tif": lambda path: Image.fromarray(np.dstack([RGB, GRAY])).save(path),
    "gray_alpha.png": lambda path: Image.fromarray(np.dstack([GRAY, GRAY]), "LA").save(path),
    "bits.png": lambda path: Image.fromarray(GRAY > 99).save(path),
    "bits.tif": lambda path: Image.fromarray(GRAY > 99).save(path, compression="group4"),
    "animated.webp": lambda path: Image.fromarray(RGB).save(
        path, save_all=True, append_images=[other()], lossless=True
    ),
    "animated.png": lambda path: Image.fromarray(RGB).save(
        path, save_all=True, append_images=[other()]
    ),
    "pages.tif": lambda path: Image.fromarray(RGB).save(
        path, save_all=True, append_images=[other()]
    ),
    "jpeg_in.png": lambda path: Image.fromarray(RGB).save(path, format="JPEG"),
    "bmp_in.jpg": lambda path: Image.fromarray(RGB).save(path, format="BMP"),
    "ppm_in.jpg": lambda path: Image.fromarray(RGB).save(path, format="PPM"),
    "mpo_in.jpg": lambda path: Image.fromarray(RGB).save(
        path, format="MPO", save_all=True, append_images=[other()]
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", [cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE])
@pytest.mark.filterwarnings("ignore:'mode' parameter")
def test_images_are_decoded_bit_identically_to_hloc(name: str, mode: int, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMATS[name](path)
    expected = as_hloc(path, mode)
    found = read_image(path, mode == cv2.IMREAD_GRAYSCALE)
    if name == "animated.png" and mode == cv2.IMREAD_GRAYSCALE:
        # OpenCV rounds the grays of an APNG differently when reading from a file.
        assert abs(found.astype(int) - expected).max() <= 1
    else:
        np.testing.assert_array_equal(found, expected)
    assert image_size(path) == expected.shape[1::-1] == (44, 30)


@pytest.mark.parametrize("name", ["animated.webp", "animated.png", "pages.tif"])
def test_the_first_of_several_images_is_read(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), RGB)


def test_an_animated_gif_is_its_first_image_or_refused(tmp_path: Path) -> None:
    """OpenCV reads GIF since 4.11."""
    path = tmp_path / "gif.png"
    Image.fromarray(RGB).save(path, format="GIF", save_all=True, append_images=[other()])
    by_file = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if by_file is None:
        with pytest.raises(ImageReadError, match="no image"):
            read_image(path)
    else:
        np.testing.assert_array_equal(read_image(path), by_file[:, :, ::-1])
        with Image.open(path) as first:
            np.testing.assert_array_equal(read_image(path), np.asarray(first.convert("RGB")))


def bomb(path: Path, width: int, height: int) -> Path:
    """Write a PNG of zeros, which decodes to a thousand times its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    deflate = zlib.compressobj(9)
    row = b"\0" * (width // 8 + (width % 8 > 0) + 1)
    data = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def no_decoding(*_: object) -> None:
    raise AssertionError("decoded")


def test_a_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "bomb.png", 30_000, 20_000)
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(cv2, "imdecode", no_decoding)
    for read in (read_image, image_size):
        with pytest.raises(ImageReadError) as error:
            read(path)
        assert one_line_error(error, "30000x20000", str(1 << 29), "increase DISK_HLOC_MAX_PIXELS")
    with pytest.raises(DiskHlocError) as refused:
        read_mask(path)
    assert one_line_error(refused, path, "DISK_HLOC_MAX_PIXELS")


def test_the_error_names_the_limit_of_opencv(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="and OpenCV's OPENCV_IO_MAX_IMAGE_PIXELS"):
        read_image(bomb(tmp_path / "bomb.png", 40_000, 30_000))


def test_the_limit_can_be_lowered_and_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    monkeypatch.setenv("DISK_HLOC_MAX_PIXELS", str(30 * 44 - 1))
    with pytest.raises(ImageReadError, match="44x30"):
        read_image(path)
    monkeypatch.setenv("DISK_HLOC_MAX_PIXELS", str(30 * 44))
    assert read_image(path).shape == RGB.shape
    for text in ("many", "-1", "0", ""):
        monkeypatch.setenv("DISK_HLOC_MAX_PIXELS", text)
        with pytest.raises(DiskHlocError, match="DISK_HLOC_MAX_PIXELS"):
            read_image(path)


def test_the_limit_holds_for_formats_that_pillow_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "radiance.png"
    cv2.imencode(".hdr", RGB.astype(np.float32) / 255)[1].tofile(path)
    assert read_image(path).shape == RGB.shape
    monkeypatch.setenv("DISK_HLOC_MAX_PIXELS", "100")
    with pytest.raises(ImageReadError, match="44x30"):
        read_image(path)


def test_a_mask_of_a_large_photo_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has a limit of its own, 179 million pixels."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = bomb(tmp_path / "mask.png", 100, 50)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert not read_mask(path).any()


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with an image, and other things with names of images."""
    folder = tmp_path / "photos"
    (folder / "folder.jpg").mkdir(parents=True)
    Image.fromarray(RGB).save(folder / "a.png")
    Image.fromarray(RGB).save(tmp_path / "elsewhere.png")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "nothing.jpg").symlink_to("absent.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "link_to_folder.jpg").symlink_to("folder.jpg")
    (folder / "link_to_pipe.jpg").symlink_to("pipe.jpg")
    (folder / "again").symlink_to(folder)
    (folder / "empty.jpg").touch()
    return folder


def test_what_is_listed(odd: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "b.jpg").touch()
    (odd / "linked").symlink_to(more)
    names = ["a.png", "empty.jpg", "link.png", "linked/b.jpg", "loop.jpg", "nothing.jpg"]
    assert list_images(odd) == names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder.jpg", "a directory"),
        ("pipe.jpg", "not a regular file"),
        ("link_to_pipe.jpg", "not a regular file"),
        ("nothing.jpg", "a broken link to absent.jpg"),
        ("loop.jpg", "a broken link to loop.jpg"),
        ("empty.jpg", "an empty file"),
        ("absent.jpg", "No such file"),
        ("a.png/b.jpg", "Not a directory"),
        ("x" * 300 + ".jpg", "too long"),
    ],
)
def test_the_reason_why_a_file_is_not_an_image(name: str, reason: str, odd: Path) -> None:
    for read in (read_image, image_size):
        with pytest.raises(ImageReadError, match=reason):
            read(odd / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission_is_an_error(odd: Path) -> None:
    (odd / "a.png").chmod(0)
    with pytest.raises(ImageReadError, match="Permission denied"):
        read_image(odd / "a.png")
    (odd / "folder.jpg").chmod(0)
    with pytest.raises(DiskHlocError, match=r"cannot list .*folder\.jpg"):
        list_images(odd)


def test_a_file_that_cannot_be_opened_says_why(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "fromfile", denied)
    with pytest.raises(ImageReadError, match="Permission denied"):
        read_image(odd / "a.png")


def test_a_folder_that_cannot_be_listed_says_so(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (odd / "secret").mkdir()
    scandir = os.scandir

    def some(path: object) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(images.os, "scandir", some)
    with pytest.raises(DiskHlocError) as error:
        list_images(odd)
    assert one_line_error(error, odd / "secret", "Permission denied")


def test_names_as_they_are_on_disk(tmp_path: Path) -> None:
    names = ["e\u0301.jpg", "\u00e9.jpg", "a b.jpg", "new\nline.jpg", "tab\t.jpg", "\x1b[31m.jpg"]
    for name in names:
        (tmp_path / name).touch()
    assert list_images(tmp_path) == sorted(names)


def test_a_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    except OSError:
        pytest.skip("the file system only allows UTF-8")
    with pytest.raises(DiskHlocError) as error:
        list_images(tmp_path)
    assert one_line_error(error, tmp_path, r"b'\xff.jpg' is not UTF-8")


@pytest.mark.parametrize("failing", [MemoryError(), cv2.error("x")])
def test_an_image_too_large_for_memory_is_a_read_error(
    failing: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    if isinstance(failing, cv2.error):
        failing.code = -4

    def no_memory(*_: object) -> None:
        raise failing

    monkeypatch.setattr(cv2, "imdecode", no_memory)
    (_, found), *_ = read_ahead(tmp_path, ["a.png"], {})
    assert isinstance(found, ImageReadError)
    assert "memory" in str(found)


@pytest.mark.parametrize("interpolation", ["cv2_area", "cv2_linear", "cv2_cubic"])
@pytest.mark.parametrize("grayscale", [False, True])
def test_large_images_are_resized_bit_identically(
    interpolation: str, grayscale: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One channel at a time gives the same result as all at once."""
    for i in range(40):
        height, width = (int(side) for side in RNG.integers(1, 400, 2))
        if i % 3 == 0:  # OpenCV has special code for integer ratios
            height, width = 4 * (height // 4 + 1), 4 * (width // 4 + 1)
        Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
            tmp_path / "a.bmp"
        )
        longest = max(height, width)
        resize_max = [longest // 2, longest // 4, int(RNG.integers(1, 500))][i % 3] or 1
        conf = {"resize_max": resize_max, "interpolation": interpolation, "grayscale": grayscale}
        conf["resize_force"] = i % 2 == 0
        expected = load_photo(tmp_path, "a.bmp", conf)
        monkeypatch.setattr(loader, "LARGE_IMAGE_PIXELS", 0)
        found = load_photo(tmp_path, "a.bmp", conf)
        monkeypatch.undo()
        np.testing.assert_array_equal(found.image, expected.image)
        assert found.image.flags.c_contiguous


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 5000), (5000, 1), (3, 700), (15, 16)])
def test_tiny_and_thin_images_go_through_the_network(size: tuple[int, int], tmp_path: Path) -> None:
    from disk_hloc import confs
    from disk_hloc.models.extractors.disk import DISK
    from disk_hloc.stages.extract import extract_photos

    noise = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    conf = confs.extractors()["disk"]
    photo = load_photo(tmp_path, "a.png", conf["preprocessing"])
    ((features, uncertainty),) = extract_photos(DISK(conf["model"]), [photo])
    assert features["image_size"].tolist() == list(size)
    assert features["keypoints"].shape == (features["descriptors"].shape[1], 2)
    assert all(np.isfinite(values).all() for values in features.values())
    assert np.isfinite(uncertainty)
