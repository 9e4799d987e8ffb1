"""Load photos and their masks for the network, and read them ahead in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.confs import TRUE_OR_FALSE, one_of, or_null, require_values, whole_number

from .digests import digest_of
from .images import (
    ImageReadError,
    decode_image,
    original_coordinates,
    read_encoded,
    resize_image,
)
from .inputs import Seen, Stamp, mask_stamps, stamp_of
from .masks import Mask, Masks, Size, digest_of_mask
from .turns import Turns, turned, turned_back

# hloc's defaults (extract_features.ImageDataset).
DEFAULT_PREPROCESSING: dict[str, Any] = {
    "grayscale": False,
    "resize_max": None,
    "resize_force": False,
    "interpolation": "cv2_area",
}
# What each may be set to.
PREPROCESSING_VALUES = {
    "grayscale": TRUE_OR_FALSE,
    "resize_max": or_null(whole_number(0)),  # 0 is as null
    "resize_force": TRUE_OR_FALSE,
    "interpolation": one_of(
        "cv2_area",
        "cv2_linear",
        "cv2_linear_exact",
        "cv2_cubic",
        "cv2_lanczos4",
        "cv2_nearest",
        "cv2_nearest_exact",
    ),
}

# Larger images are converted one channel at a time; smaller ones take little memory anyway, and
# are faster with all channels at once.
LARGE_IMAGE_PIXELS = 1 << 26


@dataclass(frozen=True)
class Photo:
    """An image that is ready for the network.

    Attributes:
        name: path relative to the image folder, with ``/``.
        image: (3, H, W) RGB, or (1, H, W) if the conf asks for grayscale; float32 in [0, 1].
        original_size: width and height of the stored image in pixels, before it was resized and
            turned.
        mask: (height, width) bool at the original size, True where keypoints are allowed; None if
            nothing is masked.
        seen: what the files were when they were read.
        turn: how often ``image`` was turned by 90 degrees, counter-clockwise
            (:mod:`disk_hloc.io.turns`).
    """

    name: str
    image: np.ndarray
    original_size: Size
    mask: Mask | None = None
    seen: Seen | None = None
    turn: int = 0

    @property
    def resized_size(self) -> Size:
        """Width and height in pixels after resizing, before turning."""
        height, width = self.image.shape[1:]
        return (height, width) if self.turn % 2 else (width, height)


def load_photo(
    folder: Path,
    name: str,
    preprocessing: Mapping[str, Any],
    masks: Masks | None = None,
    turn: int = 0,
) -> Photo:
    """Read and resize one photo, bit-identical to hloc's loader, and read its mask.

    Args:
        folder: the image folder.
        name: path of the photo in the folder.
        preprocessing: the conf's ``preprocessing``; missing keys have hloc's defaults.
        masks: source of the mask; None keeps the whole photo.
        turn: the quarters by which the resized photo is then turned, counter-clockwise.

    Raises:
        ImageReadError: the photo cannot be read; see :func:`read_image`.
        DiskHlocError: a value of ``preprocessing`` is impossible, or the mask cannot be read or
            does not fit the photo.
    """
    require_values(preprocessing, PREPROCESSING_VALUES, "preprocessing")
    grayscale = preprocessing.get("grayscale", DEFAULT_PREPROCESSING["grayscale"])
    stored, stamp, digest = read_with_digest(folder / name, grayscale)
    size = stored.shape[1], stored.shape[0]
    stamps = None if masks is None else mask_stamps(masks, name)
    mask = None if masks is None else masks(name, size)
    photo = prepare(name, stored, preprocessing, mask, turn)
    return replace(photo, seen=Seen(stamp, digest, size, stamps, digest_of_mask(photo.mask), turn))


def prepare(
    name: str,
    stored: np.ndarray,
    preprocessing: Mapping[str, Any],
    mask: Mask | None = None,
    turn: int = 0,
) -> Photo:
    """Resize and turn a photo that is in memory; see :func:`load_photo`.

    Args:
        name: path of the photo.
        stored: (H, W, 3) RGB, or (H, W) if the conf asks for grayscale; uint8.
        preprocessing, turn: see :func:`load_photo`.
        mask: (H, W) bool, True where keypoints are allowed; None is everywhere.

    Raises:
        ImageReadError: there is not enough memory.
        DiskHlocError: a value of ``preprocessing`` is impossible.
    """
    require_values(preprocessing, PREPROCESSING_VALUES, "preprocessing")
    conf = {**DEFAULT_PREPROCESSING, **preprocessing}
    height, width = stored.shape[:2]
    longest = max(width, height)
    size = (width, height)
    if conf["resize_max"] and (conf["resize_force"] or longest > conf["resize_max"]):
        scale = conf["resize_max"] / longest
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
    try:
        image = _resized(stored, size, conf["interpolation"])
    except MemoryError as error:
        raise ImageReadError(f"not enough memory for {width}x{height} px") from error
    image = image[None] if conf["grayscale"] else image.transpose(2, 0, 1)
    if mask is not None and mask.all():
        mask = None
    values = np.ascontiguousarray(turned(image, turn))
    values /= np.float32(255)  # in place: these arrays were made here, and may be large
    return Photo(name, values, (width, height), mask, turn=turn)


def read_with_digest(path: Path, grayscale: bool = False) -> tuple[np.ndarray, Stamp, str]:
    """Read an image once, with the digest of the very bytes that are decoded.

    Args:
        path: an image file.
        grayscale: decode to one channel.

    Returns:
        The image as of :func:`disk_hloc.io.images.read_image`, the stamp of the file before it was
        read, and the digest of its bytes.

    Raises:
        ImageReadError: see :func:`disk_hloc.io.images.read_image`.
    """
    try:
        stamp = stamp_of(path)
    except OSError:
        stamp = (0, 0, 0)  # reading says what is wrong
    encoded = read_encoded(path)
    return decode_image(encoded, grayscale), stamp, digest_of(encoded.tobytes())


def _resized(image: np.ndarray, size: Size, interpolation: str) -> np.ndarray:
    """Convert an 8-bit image to float32 and resize it, bit-identical to hloc.

    The channels of a large image are converted and resized one at a time, which takes a third of
    the memory. The result is then bit-identical only with ``cv2_area``; with ``cv2_linear`` it
    depends on the CPU.
    """
    if size == (image.shape[1], image.shape[0]):
        return image.astype(np.float32)
    large = image.shape[0] * image.shape[1] > LARGE_IMAGE_PIXELS
    if not large or image.ndim == 2 or interpolation != "cv2_area":
        return resize_image(image.astype(np.float32), size, interpolation)
    channels = [
        resize_image(image[:, :, i].astype(np.float32, order="C"), size, interpolation)
        for i in range(image.shape[2])
    ]
    return np.stack(channels, axis=2)


def read_ahead(
    folder: Path,
    names: Iterable[str],
    preprocessing: Mapping[str, Any],
    ahead: int = 2,
    masks: Masks | None = None,
    turns: Turns | None = None,
    readers: int = 1,
) -> Iterator[tuple[str, Photo | ImageReadError]]:
    """Yield photos in order, read by threads while the caller works on the previous ones.

    Args:
        folder: the image folder.
        names: paths of the photos in the folder.
        preprocessing: see :func:`load_photo`.
        ahead: number of photos to read ahead, at least one.
        masks: see :func:`load_photo`.
        turns: of the photos that are to be turned.
        readers: number of threads.

    Yields:
        (name, photo), or (name, error) for a photo that cannot be read.

    Raises:
        DiskHlocError: a mask cannot be read or does not fit its photo.
    """
    remaining = iter(names)
    with ThreadPoolExecutor(max_workers=readers) as pool:

        def submit(name: str) -> tuple[str, Future[Photo]]:
            turn = (turns or {}).get(name, 0)
            return name, pool.submit(load_photo, folder, name, preprocessing, masks, turn)

        waiting = [submit(name) for name in islice(remaining, max(ahead, 1))]
        try:
            while waiting:
                name, future = waiting.pop(0)
                waiting.extend(submit(following) for following in islice(remaining, 1))
                try:
                    yield name, future.result()
                except ImageReadError as error:
                    yield name, error
        finally:
            for _, future in waiting:
                future.cancel()


def of_one_size(photos: Iterable[Photo], at_once: int) -> Iterator[list[Photo]]:
    """Yield photos in order, in batches of up to ``at_once`` photos of the same size.

    That is the size of what the network sees: after resizing and turning.
    """
    batch: list[Photo] = []
    for photo in photos:
        if batch and (len(batch) == at_once or photo.image.shape != batch[0].image.shape):
            yield batch
            batch = []
        batch.append(photo)
    if batch:
        yield batch


def in_original(photo: Photo, keypoints: np.ndarray) -> np.ndarray:
    """Convert (N, 2) keypoints of the resized and turned photo to pixels of the stored one.

    Returns:
        (N, 2) float32.
    """
    resized = photo.resized_size
    upright = turned_back(keypoints, photo.turn, resized)
    moved = [
        original_coordinates(values, photo.original_size[axis], resized[axis])
        for axis, values in enumerate(upright.T)
    ]
    return np.stack(moved, axis=1)
