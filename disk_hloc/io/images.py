"""Images: finding, reading and resizing them as hloc does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..errors import DiskHlocError, listing

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class ImageReadError(Exception):
    """A file that is no image, or not a whole one. ``str(error)`` says which."""


def list_images(folder: Path) -> list[str]:
    """The images below a folder by their suffix, sorted: paths relative to it, with ``/``.

    Raises:
        DiskHlocError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DiskHlocError(f"there is no folder {folder}")
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not names:
        raise DiskHlocError(f"no image in {folder}: none of {', '.join(SUFFIXES)} at any depth")
    return names


def read_image_list(path: Path, folder: Path | None = None) -> list[str]:
    """The image names of a list, hloc's format: a name a line, what follows it is ignored.

    Empty lines and lines that begin with ``#`` are passed over.

    Args:
        path: the list.
        folder: where the images are; without it, they need not exist.

    Raises:
        DiskHlocError: the list cannot be read or is empty, or names images that do not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DiskHlocError(f"cannot read the image list {path}: {error}") from error
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise DiskHlocError(f"the image list {path} names no image")
    missing = [name for name in names if folder and not (folder / name).is_file()]
    if missing:
        raise DiskHlocError(
            f"{path} names {len(missing)} images that are not in {folder}: {listing(missing)} "
            "(a name ends at the first white space)"
        )
    return list(dict.fromkeys(names))


def read_image(path: Path, grayscale: bool = False) -> np.ndarray:
    """An image as stored: EXIF orientation is not applied (hloc's rule, and COLMAP's).

    Args:
        path: an image file.
        grayscale: decode to one channel.

    Returns:
        (H, W, 3) RGB, or (H, W), uint8.

    Raises:
        ImageReadError: the file cannot be read, is no image or is truncated.
    """
    mode = cv2.IMREAD_GRAYSCALE if grayscale else cv2.IMREAD_COLOR
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ImageReadError(error.strerror or str(error)) from error
    if len(encoded) == 0:
        raise ImageReadError("an empty file")
    # Decoded from memory, since from a file OpenCV fills the rest of a truncated JPEG with gray.
    try:
        image = cv2.imdecode(encoded, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageReadError(" ".join(str(error).split())) from error
    if image is None:
        raise ImageReadError("truncated, or no image")
    return image if grayscale else image[:, :, ::-1]


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
