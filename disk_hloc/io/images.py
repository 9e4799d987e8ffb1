"""Images: finding, reading and resizing them as hloc does."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError, listing

from .names import is_relative, require_relative
from .text import read_lines

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

LIMIT_VARIABLE = "DISK_HLOC_MAX_PIXELS"
OPENCV_LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"
DEFAULT_MAX_PIXELS = 1 << 29
# Of what cv2.imdecode takes: its arrays count their columns in 32 bits.
_MAX_BYTES = (1 << 31) - 1
_OUT_OF_MEMORY = -4  # cv::Error::StsNoMem
_TOO_LARGE = "takes more memory than there is"
# Those that OpenCV reads and Pillow knows.
_FORMATS = {
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "SUN", "TIFF", "WEBP",
}  # fmt: skip


class ImageReadError(Exception):
    """A file that is no image, or not a whole one. ``str(error)`` says which."""


def list_images(folder: Path) -> list[str]:
    """The images below a folder by their suffix, sorted: paths relative to it, with ``/``.

    Links to files and folders are followed, as hloc's listing does; a folder that is within itself
    by a link is entered once. A link to nothing is listed, so that reading it says what it is.

    Raises:
        DiskHlocError: there is no such folder, no image in it, a folder in it cannot be listed, or
            a name that is not UTF-8, which no file of features can hold.
    """
    if not folder.is_dir():
        raise DiskHlocError(f"there is no folder {folder}")
    try:
        names = sorted(_walk(folder, "", ()))
    except OSError as error:
        raise DiskHlocError(
            f"cannot list {error.filename}: {error.strerror}; mend its permissions, or take it out "
            f"of {folder}"
        ) from error
    if not names:
        raise DiskHlocError(f"no image in {folder}: none of {', '.join(SUFFIXES)} at any depth")
    for name in names:
        if not is_relative(name):
            raise DiskHlocError(
                f"{folder}: {os.fsencode(name)!r} is not a name in UTF-8: rename the image"
            )
    return names


def _walk(
    folder: str | os.PathLike[str], prefix: str, above: tuple[tuple[int, int], ...]
) -> Iterator[str]:
    """Names below a folder; ``above`` are the folders that it lies in, by device and inode."""
    status = os.stat(folder)
    itself = (status.st_dev, status.st_ino)
    if itself in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_dir(entry):
                yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, itself))
            elif _has_suffix(entry.name) and _is_file_or_broken(entry):
                yield prefix + entry.name


def _has_suffix(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(SUFFIXES) and lower not in SUFFIXES


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop
        return False


def _is_file_or_broken(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return entry.is_file()
    try:
        return stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError:
        return True


def read_image_list(path: Path, folder: Path | None = None) -> list[str]:
    """The image names of a list, hloc's format: a name a line, what follows it is ignored.

    Empty lines and lines that begin with ``#`` are passed over.

    Args:
        path: the list.
        folder: where the images are; without it, they need not exist.

    Raises:
        DiskHlocError: the list cannot be read or is empty, names images that do not exist, or a
            name leads out of their folder.
    """
    names = [
        require_relative(line.split()[0], f"{path}, line {number}")
        for number, line in enumerate(read_lines(path, "the image list"), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not names:
        raise DiskHlocError(f"the image list {path} names no image")
    missing = [name for name in names if folder and not os.path.lexists(folder / name)]
    if missing:
        raise DiskHlocError(
            f"{path} names {len(missing)} images that are not in {folder}: {listing(missing)} "
            "(a name ends at the first white space)"
        )
    return list(dict.fromkeys(names))


def read_image(path: Path, grayscale: bool = False) -> np.ndarray:
    """An image as stored: EXIF orientation is not applied (hloc's rule, and COLMAP's).

    The bits are those of ``cv2.imread`` with ``IMREAD_IGNORE_ORIENTATION``, as hloc reads: 16 bits
    become the upper 8, an alpha channel is dropped, a palette and CMYK become RGB, and of an
    animation the first frame is taken.

    Args:
        path: an image file.
        grayscale: decode to one channel.

    Returns:
        (H, W, 3) RGB, or (H, W), uint8.

    Raises:
        ImageReadError: the file cannot be read, is no image, is truncated, or has more pixels than
            :func:`max_pixels`.
    """
    mode = cv2.IMREAD_GRAYSCALE if grayscale else cv2.IMREAD_COLOR
    encoded = _read_bytes(path)
    # Decoded from memory, since from a file OpenCV fills the rest of a truncated JPEG with gray.
    try:
        image = cv2.imdecode(encoded, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except MemoryError as error:
        raise ImageReadError(_TOO_LARGE) from error
    except cv2.error as error:
        if error.code == _OUT_OF_MEMORY:
            raise ImageReadError(_TOO_LARGE) from error
        raise ImageReadError(" ".join(str(error).split())) from error
    if image is None:
        raise ImageReadError("truncated, or no image")
    # Of a format that Pillow does not know the size is found out only now.
    require_few_pixels((image.shape[1], image.shape[0]))
    return image if grayscale else image[:, :, ::-1]


def _read_bytes(path: Path) -> np.ndarray:
    """The bytes of a file, whose header has been looked at first."""
    try:
        num_bytes = _require_regular(path)
        with opened(path):
            pass
        if num_bytes > _MAX_BYTES:
            raise ImageReadError(
                f"of {num_bytes / 2**30:.1f} GiB, but OpenCV decodes 2 GiB at most"
            )
        encoded = np.fromfile(path, dtype=np.uint8)
    except MemoryError as error:
        raise ImageReadError(_TOO_LARGE) from error
    except OSError as error:
        raise ImageReadError(_why(error, path)) from error
    if len(encoded) == 0:
        raise ImageReadError("an empty file")
    return encoded


def _require_regular(path: Path) -> int:
    """How many bytes a file has.

    Raises:
        OSError: there is none.
        ImageReadError: it is a folder, a pipe or another thing than a file, or it is empty.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageReadError("a directory")
    # A pipe would be waited for, without end.
    if not stat.S_ISREG(status.st_mode):
        raise ImageReadError("not a regular file")
    if status.st_size == 0:
        raise ImageReadError("an empty file")
    return status.st_size


def _why(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOENT, errno.ELOOP) and path.is_symlink():
        return f"a link to {os.readlink(path)}, which leads nowhere"
    return error.strerror or str(error)


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile | None]:
    """An image by Pillow, of which no more than the header is read yet; None if it knows it not.

    Not by ``Image.open``, which ends, or warns, at a limit of its own.

    Raises:
        OSError: the file cannot be opened.
        ImageReadError: it is no regular file or empty, or has more pixels than
            :func:`max_pixels`.
    """
    _require_regular(path)
    Image.init()
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _parse(file)
        if image is not None:
            require_few_pixels(image.size)
        yield image


def _parse(file: BinaryIO) -> ImageFile.ImageFile | None:
    prefix = file.read(16)
    for name in _FORMATS & set(Image.OPEN):
        factory, accept = Image.OPEN[name]
        try:
            # Some answer with a text, which says why not.
            if accept is None or accept(prefix) is True:
                file.seek(0)
                return factory(file, "")
        except PARSER_ERRORS:
            continue
    return None


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as stored, from its header.

    Raises:
        ImageReadError: as :func:`read_image`, as far as the header tells.
    """
    try:
        with opened(path) as image:
            if image is None:
                raise ImageReadError("truncated, or no image")
            return image.size
    except OSError as error:
        raise ImageReadError(_why(error, path)) from error


def max_pixels() -> int:
    """The most pixels that an image may have, ``DISK_HLOC_MAX_PIXELS`` or 2^29, 23,170 squared.

    A small file can decode to any number of pixels. OpenCV itself stops at 2^30, unless
    ``OPENCV_IO_MAX_IMAGE_PIXELS`` says otherwise.

    Raises:
        DiskHlocError: the variable holds no such number.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise DiskHlocError(f"{LIMIT_VARIABLE} is {text!r}, but must be a number of pixels")
    return int(text)


def require_few_pixels(size: tuple[int, int]) -> None:
    """Check a width and height in pixels against :func:`max_pixels`.

    Raises:
        ImageReadError: they are more.
    """
    width, height = size
    limit = max_pixels()
    if width * height <= limit:
        return
    raising = LIMIT_VARIABLE
    if width * height > 1 << 30:
        raising += f" and OpenCV's {OPENCV_LIMIT_VARIABLE}"
    raise ImageReadError(
        f"{width}x{height} px are more than the limit of {limit} pixels: if it is no bomb, raise "
        f"{raising}"
    )


def resize_image(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize as hloc does.

    Args:
        image: (H, W) or (H, W, 3) float32.
        size: new width and height in pixels.
        interpolation: ``cv2_<name>``, OpenCV's ``INTER_<NAME>``; area becomes linear where the
            image grows.

    Raises:
        DiskHlocError: unknown interpolation.
    """
    library, _, name = interpolation.partition("_")
    method = getattr(cv2, f"INTER_{name.upper()}", None) if library == "cv2" else None
    if method is None:
        raise DiskHlocError(
            f"unknown interpolation {interpolation!r}: cv2_area, cv2_linear, cv2_cubic, ..."
        )
    height, width = image.shape[:2]
    if method == cv2.INTER_AREA and (width < size[0] or height < size[1]):
        method = cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=method)


def original_coordinates(coordinates: np.ndarray, original: int, resized: int) -> np.ndarray:
    """Coordinates in a resized image in pixels of the original one, float32 as hloc's arithmetic.

    Args:
        coordinates: along one axis, 0 at the centre of the first pixel.
        original: the length of that axis of the original image, in pixels.
        resized: the same of the resized image.
    """
    scale, half = np.float32(original / resized), np.float32(0.5)
    moved: np.ndarray = (coordinates.astype(np.float32) + half) * scale - half
    return moved
