"""Listing, reading and resizing photos, compared with OpenCV and Pillow."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import ImageReadError, list_images, read_image, read_image_list
from disk_hloc.io.loader import load_photo, read_ahead
from support.errors import one_line_error


@pytest.fixture
def photo(sacre_coeur):
    return sorted(sacre_coeur.glob("*.jpg"))[0]


@pytest.fixture
def folder(tmp_path):
    """Four small images: 0.png is black, 1.png a bit brighter, ..."""
    for i in range(4):
        Image.new("RGB", (8, 6), (i, i, i)).save(tmp_path / f"{i}.png")
    return tmp_path


# list_images


def test_lists_nested_images_of_any_suffix_case_sorted(tmp_path):
    names = ["z.JPG", "a/b/c.jpeg", "a/B.PNG", "b.tif", "ü/ö.webp", "with space.Bmp", "c.TIFF"]
    for name in [*names, "notes.txt", "a/features.h5", "jpg", "a/x.jpg.part"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert list_images(tmp_path) == sorted(names)


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(DiskHlocError) as error:
        list_images(tmp_path / "absent")
    assert one_line_error(error, "there is no folder", tmp_path / "absent")


@pytest.mark.parametrize("filename", [None, "notes.txt"])
def test_folder_without_images_is_an_error(tmp_path, filename):
    if filename:
        (tmp_path / filename).touch()
    with pytest.raises(DiskHlocError) as error:
        list_images(tmp_path)
    assert one_line_error(error, "no image in", tmp_path, ".jpg", ".tiff")


# read_image_list


def test_image_list_has_names_in_order_without_duplicates(folder):
    path = folder / "list.txt"
    path.write_text("# a comment\n2.png SIMPLE_RADIAL 8 6 10 4 3 0\n\n  \n0.png\n2.png\n1.png 7\n")
    assert read_image_list(path, folder) == ["2.png", "0.png", "1.png"]


def test_image_list_with_names_that_do_not_exist(folder):
    path = folder / "list.txt"
    path.write_text("0.png\nmy photo.png\n" + "".join(f"{i}.png\n" for i in range(3, 12)))
    with pytest.raises(DiskHlocError) as error:
        read_image_list(path, folder)
    assert one_line_error(error, path, "9 images", "my, 4.png", "and 4 more", "white space")


def test_names_with_white_space_in_an_image_list(folder):
    for name in ("my photo.png", "#1.png"):
        (folder / "0.png").rename(folder / name)
        path = folder / "list.txt"
        for line in (name, f"./{name}\tPINHOLE 8 6 1 1 4 3"):
            path.write_bytes(b"\xef\xbb\xbf./" + line.encode() + b"\r\n")
            assert read_image_list(path, folder) == [name]
        (folder / name).rename(folder / "0.png")
    path.write_text("my photo.png\n")
    assert read_image_list(path, known=["my photo.png"]) == ["my photo.png"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"# 0.png\n"])
def test_image_list_without_names(folder, content):
    path = folder / "list.txt"
    path.write_bytes(content)
    with pytest.raises(DiskHlocError) as error:
        read_image_list(path, folder)
    assert one_line_error(error, path, "is empty")


def test_image_list_that_cannot_be_read(folder):
    binary = folder / "0.png"
    for path in (folder / "absent.txt", folder, binary):
        with pytest.raises(DiskHlocError) as error:
            read_image_list(path, folder)
        assert one_line_error(error, "cannot read the image list", path)


# read_image


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_reads_rgb_of_lossless_formats(tmp_path, suffix):
    rgb = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / f"image.{suffix}")
    image = read_image(tmp_path / f"image.{suffix}")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, rgb)


def test_reads_grayscale_as_two_dimensions(photo):
    expected = cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    image = read_image(photo, grayscale=True)
    assert image.ndim == 2
    np.testing.assert_array_equal(image, expected)


def test_reads_gray_alpha_and_16_bit_files_as_rgb(tmp_path):
    gray = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    Image.fromarray(gray).save(tmp_path / "gray.png")
    rgba = np.dstack([gray, gray // 2, gray // 3, np.full_like(gray, 200)])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    cv2.imwrite(str(tmp_path / "deep.png"), gray.astype(np.uint16) * 256)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.dstack([gray] * 3))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), rgba[:, :, :3])
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), np.dstack([gray] * 3))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("grayscale", [False, True])
def test_exif_orientation_is_not_applied(tmp_path, orientation, grayscale):
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "image.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "image.jpg", grayscale)
    assert image.shape[:2] == (16, 32)
    assert image[:, :14].min() > 240
    assert image[:, 18:].max() < 15


# If only the end marker is cut off, all pixels can be decoded.
@pytest.mark.parametrize("kept", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("grayscale", [False, True])
def test_truncated_jpeg_is_refused(photo, tmp_path, kept, grayscale):
    encoded = photo.read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded[: int(kept * len(encoded))])
    with pytest.raises(ImageReadError, match="truncated"):
        read_image(path, grayscale)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp"])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.95])
def test_other_truncated_files_are_refused(tmp_path, suffix, kept):
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(rgb).save(path)
    encoded = path.read_bytes()
    path.write_bytes(encoded[: int(kept * len(encoded))])
    with pytest.raises(ImageReadError, match="truncated"):
        read_image(path)


def test_the_reason_why_a_file_is_not_an_image(tmp_path):
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "text.jpg").write_text("this is not an image\n" * 100)
    for name, reason in (
        ("zero.jpg", "empty file"),
        ("text.jpg", "not an image"),
        ("absent.jpg", "No such file"),
        (".", "directory"),
    ):
        with pytest.raises(ImageReadError, match=reason) as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)


def test_path_with_unicode_and_blanks(tmp_path):
    path = tmp_path / "Größe 漢字" / "é è.png"
    path.parent.mkdir()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(path)
    np.testing.assert_array_equal(read_image(path), np.full((2, 3, 3), (1, 2, 3)))


# load_photo


def hloc_image(path, resize_max, resize_force, grayscale):
    """Reimplement hloc's ImageDataset.__getitem__."""
    mode = cv2.IMREAD_GRAYSCALE if grayscale else cv2.IMREAD_COLOR
    image = cv2.imread(str(path), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    if not grayscale:
        image = image[:, :, ::-1]
    image = image.astype(np.float32)
    width, height = image.shape[1], image.shape[0]
    longest = max(width, height)
    if resize_max and (resize_force or longest > resize_max):
        scale = resize_max / longest
        size = (round(width * scale), round(height * scale))
        method = cv2.INTER_LINEAR if size[0] > width else cv2.INTER_AREA
        image = cv2.resize(image, size, interpolation=method)
    image = image[None] if grayscale else image.transpose((2, 0, 1))
    return image / 255.0


@pytest.mark.parametrize("grayscale", [False, True])
@pytest.mark.parametrize(
    ("resize_max", "resize_force"),
    [(None, False), (1600, False), (1600, True), (640, False), (333, True)],
)
def test_load_photo_is_bit_identical_to_hloc(sacre_coeur, grayscale, resize_max, resize_force):
    for path in sorted(sacre_coeur.glob("*.jpg"))[:3]:
        expected = hloc_image(path, resize_max, resize_force, grayscale)
        conf = {"grayscale": grayscale, "resize_max": resize_max, "resize_force": resize_force}
        photo = load_photo(sacre_coeur, path.name, conf)
        assert photo.name == path.name
        with Image.open(path) as file:
            assert photo.original_size == file.size
        assert photo.image.dtype == np.float32
        assert photo.image.flags.c_contiguous
        np.testing.assert_array_equal(photo.image, expected)


def test_load_photo_has_hlocs_defaults(photo):
    np.testing.assert_array_equal(
        load_photo(photo.parent, photo.name, {}).image, hloc_image(photo, None, False, False)
    )


def test_load_photo_uses_the_requested_interpolation(photo):
    conf = {"resize_max": 200, "interpolation": "cv2_nearest"}
    image = load_photo(photo.parent, photo.name, conf).image
    full = read_image(photo).astype(np.float32)
    expected = cv2.resize(full, image.shape[:0:-1], interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(image, expected.transpose(2, 0, 1) / np.float32(255))


@pytest.mark.parametrize("interpolation", ["cv2_sharp", "area", "pil_linear", ""])
def test_unknown_interpolation(photo, interpolation):
    conf = {"resize_max": 200, "interpolation": interpolation}
    with pytest.raises(DiskHlocError, match="interpolation") as error:
        load_photo(photo.parent, photo.name, conf)
    assert one_line_error(error, repr(interpolation), "cv2_area")


def test_a_sliver_keeps_a_pixel(tmp_path):
    Image.new("RGB", (3000, 1), (9, 9, 9)).save(tmp_path / "sliver.png")
    photo = load_photo(tmp_path, "sliver.png", {"resize_max": 100})
    assert photo.image.shape == (3, 1, 100)
    assert photo.original_size == (3000, 1)


# read_ahead


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_read_ahead_keeps_order_and_yields_errors_in_place(folder, ahead):
    (folder / "broken.png").write_bytes(b"no image")
    names = ["3.png", "broken.png", "1.png", "absent.png", "1.png", "0.png"]
    results = list(read_ahead(folder, iter(names), {}, ahead))
    assert [name for name, _ in results] == names
    for name, result in results:
        if name in ("broken.png", "absent.png"):
            assert isinstance(result, ImageReadError)
        else:
            assert result.name == name
            np.testing.assert_array_equal(result.image, np.float32(int(name[0])) / np.float32(255))


def test_read_ahead_of_nothing(folder):
    assert list(read_ahead(folder, [], {})) == []


def test_read_ahead_reads_no_more_than_needed(folder):
    taken = []
    names = (taken.append(i) or f"{i % 4}.png" for i in range(1000))
    photos = read_ahead(folder, names, {}, ahead=2)
    next(photos)
    assert len(taken) <= 3
    photos.close()


def test_closing_read_ahead_leaves_no_thread(folder):
    before = set(threading.enumerate())
    photos = read_ahead(folder, ["0.png"] * 1000, {}, ahead=500)
    next(photos)
    assert set(threading.enumerate()) - before
    photos.close()
    assert not set(threading.enumerate()) - before


def test_read_ahead_raises_errors_that_do_not_concern_the_image(folder):
    before = set(threading.enumerate())
    with pytest.raises(DiskHlocError, match="interpolation"):
        list(read_ahead(folder, ["0.png"], {"resize_max": 4, "interpolation": "x"}))
    assert not set(threading.enumerate()) - before
