"""List, read and resize images as hloc does."""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError, listing

from . import heif
from .names import is_relative, require_relative
from .output_folder import MARK
from .text import columns, read_lines

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif", ".avif",
)  # fmt: skip

LIMIT_VARIABLE = "DISK_HLOC_MAX_PIXELS"
OPENCV_LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"
DEFAULT_MAX_PIXELS = 1 << 29
# The limit of cv2.imdecode, whose arrays count their columns in 32 bits.
_MAX_BYTES = (1 << 31) - 1
_OUT_OF_MEMORY = -4  # cv::Error::StsNoMem
_TOO_LARGE = "not enough memory to decode it"
_BROKEN = "truncated, or not an image"
_DEEP = "it has 32 bits a sample, whose range nobody knows: convert it to 8 or 16 bits"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = b"\xff\xd8"
# The formats that are read: by OpenCV and Pillow, and HEIF by Pillow with pillow-heif.
_FORMATS = {
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "SUN", "TIFF",
    "WEBP",
}  # fmt: skip


class ImageReadError(Exception):
    """A file that is not an image, or not a whole one; ``str(error)`` is the reason."""


class TooManyPixels(ImageReadError):
    """An image with more pixels than :func:`max_pixels`."""


def list_images(folder: Path, without: Iterable[Path | None] = ()) -> list[str]:
    """List the images below a folder, recognized by their suffix.

    Links to files and folders are followed, as hloc does; a folder that contains itself through a
    link is entered once. A broken link is listed, so that reading it reports the error. Output
    folders (:mod:`disk_hloc.io.output_folder`) are skipped.

    Args:
        folder: the image folder.
        without: folders whose images are not listed, such as those of masks.

    Returns:
        Sorted paths relative to the folder, with ``/``.

    Raises:
        DiskHlocError: the folder does not exist or has no images, a folder in it cannot be listed,
            or a name is not UTF-8 (HDF5 files cannot hold it).
    """
    if not folder.is_dir():
        raise DiskHlocError(f"there is no folder {folder}")
    try:
        skipped = {_identity(path) for path in without if path is not None and path.is_dir()}
        names = sorted(_walk(folder, "", (), skipped - {_identity(folder)}))
    except OSError as error:
        raise DiskHlocError(
            f"cannot list {error.filename}: {error.strerror}; fix its permissions, or move it out "
            f"of {folder}"
        ) from error
    if not names:
        raise DiskHlocError(
            f"no image in {folder} or its subfolders: expected files with one of the suffixes "
            f"{', '.join(SUFFIXES)}"
        )
    for name in names:
        if not is_relative(name):
            raise DiskHlocError(
                f"{folder}: the image name {os.fsencode(name)!r} is not UTF-8: rename the image"
            )
    return names


# Device and inode of a folder.
_Identity = tuple[int, int]


def _identity(folder: str | os.PathLike[str]) -> _Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _walk(
    folder: str | os.PathLike[str],
    prefix: str,
    above: tuple[_Identity, ...],
    skipped: Collection[_Identity],
) -> Iterator[str]:
    """Yield the images below a folder, whose parent folders are ``above``."""
    itself = _identity(folder)
    if itself in above or itself in skipped:
        return
    with os.scandir(folder) as entries:
        found = list(entries)
    if above and any(entry.name == MARK for entry in found):
        return
    for entry in found:
        if _is_dir(entry):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, itself), skipped)
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


def read_image_list(
    path: Path, folder: Path | None = None, known: Collection[str] = ()
) -> list[str]:
    """Read the image names of a list in hloc's format: one name per line, the rest is ignored.

    A name ends at the first tab, or at the first white space if the line has no tab, unless there
    is an image of the whole line's name. :mod:`disk_hloc.io.text` says which lines are skipped.

    Args:
        path: the list.
        folder: the folder of the images; if None, the images do not have to exist.
        known: names of images.

    Returns:
        The names without duplicates, in the order of the list.

    Raises:
        DiskHlocError: the list cannot be read or is empty, an image does not exist, or a name
            points outside the folder of the images.
    """
    names = []
    for number, line in read_lines(path, "the image list"):
        where = f"{path}, line {number}"
        whole = line in known or (
            folder is not None and is_relative(line) and os.path.lexists(folder / line)
        )
        names.append(require_relative(line if whole else columns(line)[0], where))
    if not names:
        raise DiskHlocError(f"the image list {path} is empty")
    missing = [name for name in names if folder and not os.path.lexists(folder / name)]
    if missing:
        raise DiskHlocError(
            f"{path} lists {len(missing)} images that are not in {folder}: {listing(missing)} "
            "(a name ends at the first tab or, in a line without one, at the first white space)"
        )
    return list(dict.fromkeys(names))


def read_image(path: Path, grayscale: bool = False, *, small: bool = False) -> np.ndarray:
    """Read an image as stored, like hloc: EXIF orientation is not applied.

    The result is bit-identical to ``cv2.imread`` with ``IMREAD_IGNORE_ORIENTATION``, as hloc reads:
    16-bit values become their upper 8 bits, an alpha channel is dropped, a palette and CMYK become
    RGB, and the first frame of an animation is used.

    What OpenCV cannot decode goes through Pillow, by the same rules: HEIC (with pillow-heif), AVIF
    and TIFF of compressions that the installed OpenCV lacks. A HEIC photo is stored upright: a
    turn in its container is part of the format, every decoder applies it, and its EXIF orientation
    is ignored. Its pixels, here and for COLMAP, are those that any viewer shows. In AVIF, as in
    JPEG, the stored pixels are used, and :func:`disk_hloc.io.exif.read_exif` reports the turn.

    Args:
        path: an image file.
        grayscale: decode to one channel.
        small: half the width and height may be returned, where that is faster.

    Returns:
        (H, W, 3) RGB, or (H, W) if ``grayscale``; uint8.

    Raises:
        ImageReadError: the file cannot be read, is not an image, is truncated, or has more pixels
            than :func:`max_pixels`; its samples have 32 bits, for which there is no fixed range;
            or no decoder of its format is installed, with what to install.
    """
    return decode_image(read_encoded(path), grayscale, small=small)


def decode_image(
    encoded: np.ndarray, grayscale: bool = False, *, small: bool = False
) -> np.ndarray:
    """Decode the bytes of an image file as :func:`read_image` does.

    Args:
        encoded: (N,) uint8, of :func:`read_encoded`.
        grayscale, small: see :func:`read_image`.

    Returns, Raises: see :func:`read_image`.
    """
    prefix = encoded[: heif.PREFIX_BYTES].tobytes()
    if heif.is_heic(prefix):
        return _decode_by_pillow(encoded, grayscale)
    if small and prefix.startswith(_JPEG):
        mode = cv2.IMREAD_REDUCED_GRAYSCALE_2 if grayscale else cv2.IMREAD_REDUCED_COLOR_2
    else:
        mode = cv2.IMREAD_GRAYSCALE if grayscale else cv2.IMREAD_COLOR
    # Decoded from memory: from a file, OpenCV fills the rest of a truncated JPEG with gray.
    try:
        image = cv2.imdecode(encoded, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except MemoryError as error:
        raise ImageReadError(_TOO_LARGE) from error
    except cv2.error as error:
        if error.code == _OUT_OF_MEMORY:
            raise ImageReadError(_TOO_LARGE) from error
        raise ImageReadError(" ".join(str(error).split())) from error
    if image is None:
        if heif.is_avif(prefix) or prefix[:4] in _TIFF:
            return _decode_by_pillow(encoded, grayscale)
        raise ImageReadError(_BROKEN)
    # For a format that Pillow does not know, the size is known only now.
    require_few_pixels((image.shape[1], image.shape[0]))
    return image if grayscale else image[:, :, ::-1]


def _decode_by_pillow(encoded: np.ndarray, grayscale: bool) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _parse(io.BytesIO(encoded.tobytes()))
            if image is None:
                raise ImageReadError(_why_not_parsed(encoded))
            require_few_pixels(image.size)
            if image.mode.startswith(("I", "F")):
                raise ImageReadError(_DEEP)
            return np.array(image.convert("L" if grayscale else "RGB"))
    except MemoryError as error:
        raise ImageReadError(_TOO_LARGE) from error
    except PARSER_ERRORS as error:
        raise ImageReadError(_BROKEN) from error


def _why_not_parsed(encoded: np.ndarray) -> str:
    """Return why neither OpenCV nor Pillow reads a file that is HEIC, AVIF or TIFF by its start."""
    prefix = encoded[: heif.PREFIX_BYTES].tobytes()
    if heif.is_avif(prefix) and "AVIF" not in Image.OPEN:
        return heif.INSTALL_AVIF
    if prefix[:4] not in _TIFF:
        return _BROKEN
    # Without a conversion to 8 bits, OpenCV reads more.
    image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    return _BROKEN if image is None else _DEEP


def read_encoded(source: Path | bytes) -> np.ndarray:
    """Return the (N,) uint8 bytes of an image file after checking its header.

    Args:
        source: the file, or its bytes.

    Raises:
        ImageReadError: see :func:`read_image`.
    """
    try:
        num_bytes = len(source) if isinstance(source, bytes) else _require_regular(source)
        with opened(source):
            pass
        if num_bytes > _MAX_BYTES:
            raise ImageReadError(
                f"{num_bytes / 2**30:.1f} GiB, but OpenCV decodes files of up to 2 GiB"
            )
        if isinstance(source, bytes):
            encoded = np.frombuffer(source, dtype=np.uint8)
        else:
            encoded = np.fromfile(source, dtype=np.uint8)
    except MemoryError as error:
        raise ImageReadError(_TOO_LARGE) from error
    except OSError as error:
        if isinstance(source, bytes):
            raise ImageReadError(_BROKEN) from error
        raise ImageReadError(_why(error, source)) from error
    if len(encoded) == 0:
        raise ImageReadError("an empty file")
    return encoded


def _require_regular(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        OSError: the file does not exist.
        ImageReadError: the path is a folder, a pipe or another special file, or the file is empty.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageReadError("a directory")
    # Opening a pipe would block forever.
    if not stat.S_ISREG(status.st_mode):
        raise ImageReadError("not a regular file")
    if status.st_size == 0:
        raise ImageReadError("an empty file")
    return status.st_size


def _why(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOENT, errno.ELOOP) and path.is_symlink():
        return f"a broken link to {os.readlink(path)}"
    return error.strerror or str(error)


@contextmanager
def opened(source: Path | bytes) -> Iterator[ImageFile.ImageFile | None]:
    """Open an image with Pillow, reading only its header; None if Pillow does not know the format.

    ``Image.open`` is not used, since it warns or fails at a limit of its own.

    Args:
        source: the file, or its bytes.

    Raises:
        OSError: the file cannot be opened.
        ImageReadError: the file is not a regular file, is empty, has more pixels than
            :func:`max_pixels`, or is HEIC and its decoder is not installed.
    """
    if isinstance(source, Path):
        _require_regular(source)
    elif not source:
        raise ImageReadError("an empty file")
    file: BinaryIO = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _parse(file)
        if image is not None:
            require_few_pixels(image.size)
        yield image


def _parse(file: BinaryIO) -> ImageFile.ImageFile | None:
    """Open an image with the first of Pillow's plug-ins that accepts it.

    Raises:
        ImageReadError: it is HEIC, and its decoder is not installed.
    """
    Image.init()
    start = file.read(heif.PREFIX_BYTES)
    if heif.is_heic(start) and not heif.register_heic():
        raise ImageReadError(heif.INSTALL_HEIC)
    prefix = start[:16]
    for name in _FORMATS & set(Image.OPEN):
        factory, accept = Image.OPEN[name]
        try:
            # Some plug-ins return a string, which says why they do not accept the file.
            if accept is None or accept(prefix) is True:
                file.seek(0)
                return factory(file, "")
        except PARSER_ERRORS:
            continue
    return None


def image_size(path: Path) -> tuple[int, int]:
    """Read the width and height in pixels of an image as stored, from its header.

    Raises:
        ImageReadError: the errors of :func:`read_image` that the header shows.
    """
    try:
        with opened(path) as image:
            if image is None:
                raise ImageReadError(_BROKEN)
            return image.size
    except OSError as error:
        raise ImageReadError(_why(error, path)) from error


def max_pixels() -> int:
    """Return the most pixels an image may have: ``DISK_HLOC_MAX_PIXELS``, or 2^29 (23,170 squared).

    A small file can decode to any number of pixels. OpenCV's own limit is 2^30, unless
    ``OPENCV_IO_MAX_IMAGE_PIXELS`` is set.

    Raises:
        DiskHlocError: the variable is not a positive integer.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if text is None:
        return DEFAULT_MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise DiskHlocError(f"{LIMIT_VARIABLE} must be a number of pixels, found {text!r}")
    return int(text)


def require_few_pixels(size: tuple[int, int]) -> None:
    """Check a width and height in pixels against :func:`max_pixels`.

    Raises:
        TooManyPixels: the image has more pixels.
    """
    width, height = size
    limit = max_pixels()
    if width * height <= limit:
        return
    variables = LIMIT_VARIABLE
    if width * height > 1 << 30:
        variables += f" and OpenCV's {OPENCV_LIMIT_VARIABLE}"
    raise TooManyPixels(
        f"{width}x{height} px exceed the limit of {limit} pixels: if you trust the file, increase "
        f"{variables}"
    )


def resize_image(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize an image as hloc does.

    Args:
        image: (H, W) or (H, W, 3) float32.
        size: new width and height in pixels.
        interpolation: ``cv2_<name>`` for OpenCV's ``INTER_<NAME>``; ``cv2_area`` becomes
            ``cv2_linear`` if the image is enlarged.

    Returns:
        (height, width) or (height, width, 3) float32.

    Raises:
        DiskHlocError: the interpolation is unknown.
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
    """Convert coordinates in a resized image to pixels of the original image, in float32 as hloc.

    Args:
        coordinates: coordinates along one axis, with 0 at the centre of the first pixel.
        original: length of that axis in the original image, in pixels.
        resized: length of that axis in the resized image, in pixels.

    Returns:
        Coordinates of the same shape in the original image, float32.
    """
    scale, half = np.float32(original / resized), np.float32(0.5)
    moved: np.ndarray = (coordinates.astype(np.float32) + half) * scale - half
    return moved
