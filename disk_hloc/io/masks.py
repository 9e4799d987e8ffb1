"""Masks: where in a photo keypoints may be.

A mask is a boolean image of the photo as stored (EXIF orientation is not applied), True where
keypoints may be. It comes from a folder of images in COLMAP's convention, from one image for all
photos, from label maps, or from a COCO file; several together keep what all of them keep.

The rule for a keypoint is COLMAP's. A keypoint at (x, y), with (0, 0) at the centre of the
top-left pixel, lies in the pixel (floor(x + 0.5), floor(y + 0.5)): a pixel reaches from its centre
half a pixel to each side, and what lies exactly between two belongs to the right or lower one. It
is kept if the mask keeps that pixel. A keypoint outside the image is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.log import logger

from .coco import read_coco
from .images import SUFFIXES, ImageReadError, opened

Mask = NDArray[np.bool_]
Size = tuple[int, int]  # width, height
# (image name, size) -> mask, or None where the source has none for the image.
Source = Callable[[str, Size], "Mask | None"]

DEFAULT_CONF: dict[str, Any] = {
    "folder": None,  # COLMAP's convention: a/b.jpg.png for a/b.jpg; also a/b.png
    "file": None,  # one image for all photos
    "invert": False,  # white, not black, is ignored in `folder` and `file`
    "ignore_labels": None,  # `folder` and `file` hold ids; these are ignored
    "coco": None,  # a COCO file of annotations or results
    "ignore_classes": None,  # names or ids; None: every annotation
    "min_score": 0.0,
    "dilate": 0,  # the ignored region grows by so many pixels
    "missing": "keep",  # or "error"
}

# Aspects may differ by so much for a mask to be taken as a smaller or larger version.
ASPECT_TOLERANCE = 0.01
# Lossy formats have no clean black.
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
_LOSSY_THRESHOLD = 128


class Masks:
    """The masks of a data set.

    Attributes:
        conf: what they come from, :data:`DEFAULT_CONF` with the user's keys.
        missing: names asked for that no source has a mask of; everything of them is kept.

    Raises:
        DiskHlocError: an unknown key, a folder or file that does not exist, an unknown class.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        unknown = set(conf) - set(DEFAULT_CONF)
        if unknown:
            raise DiskHlocError(f"unknown keys for masks: {', '.join(sorted(unknown))}")
        self.conf = {**DEFAULT_CONF, **conf}
        if self.conf["missing"] not in ("keep", "error"):
            raise DiskHlocError(f"missing masks: keep or error, not {self.conf['missing']!r}")
        if self.conf["dilate"] < 0:
            raise DiskHlocError(f"dilate is {self.conf['dilate']}, but cannot be negative")
        self.missing: set[str] = set()
        self._sources = list(self._open_sources())
        if not self._sources:
            raise DiskHlocError("no source of masks: give a folder, a file or a COCO file")

    def __call__(self, name: str, size: Size) -> Mask:
        """The mask of one image.

        Args:
            name: of the image, relative to the image folder.
            size: its width and height in pixels.

        Returns:
            (height, width) bool, True where keypoints may be.

        Raises:
            DiskHlocError: a mask cannot be read or has another aspect, or there is none and
                ``missing`` is ``error``.
        """
        found = [mask for mask in (read(name, size) for read in self._sources) if mask is not None]
        if not found:
            if self.conf["missing"] == "error":
                raise DiskHlocError(f"there is no mask of {name}: make one, or keep such images")
            self.missing.add(name)
            return np.ones((size[1], size[0]), dtype=bool)
        keep: Mask = np.logical_and.reduce(found)
        return grow_ignored(keep, self.conf["dilate"])

    def log_missing(self, num_images: int) -> None:
        """Say of how many of ``num_images`` images there was no mask, if of any."""
        log_missing(self.missing, num_images)

    def _open_sources(self) -> Iterable[Source]:
        conf = self.conf
        labels = conf["ignore_labels"]
        if conf["folder"] is not None:
            folder = Path(conf["folder"])
            if not folder.is_dir():
                raise DiskHlocError(f"there is no folder of masks {folder}")

            def from_folder(name: str, size: Size) -> Mask | None:
                path = find_mask(folder, name)
                if path is None:
                    return None
                return fit(read_mask(path, conf["invert"], labels), size, path, name)

            yield from_folder
        if conf["file"] is not None:
            path = Path(conf["file"])
            mask = read_mask(path, conf["invert"], labels)
            yield lambda name, size: fit(mask, size, path, name)
        if conf["coco"] is not None:
            coco_path = Path(conf["coco"])
            coco = read_coco(coco_path, conf["ignore_classes"], conf["min_score"])

            def from_coco(name: str, size: Size) -> Mask | None:
                parts = coco(name, size)
                if parts is None:
                    return None
                keep = np.ones((size[1], size[0]), dtype=bool)
                for part in parts:
                    keep &= fit(~part, size, coco_path, name)
                return keep

            yield from_coco


def keep_keypoints(mask: Mask, keypoints: np.ndarray) -> NDArray[np.bool_]:
    """Which keypoints a mask keeps, by the rule above.

    Args:
        mask: (H, W) bool.
        keypoints: (N, 2) x and y in pixels of the image, (0, 0) at the centre of the top-left one.

    Returns:
        (N,) bool.
    """
    x, y = pixel_of(keypoints[:, 0]), pixel_of(keypoints[:, 1])
    height, width = mask.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    kept: NDArray[np.bool_] = inside & mask[np.where(inside, y, 0), np.where(inside, x, 0)]
    return kept


def pixel_of(coordinates: np.ndarray) -> NDArray[np.int64]:
    """The column (or row) of pixels in which coordinates lie. In float64: x + 0.5 is exact."""
    pixels: NDArray[np.int64] = np.floor(coordinates.astype(np.float64) + 0.5).astype(np.int64)
    return pixels


def grow_ignored(mask: Mask, pixels: int) -> Mask:
    """The mask with its ignored region grown by a disc of so many pixels."""
    if pixels == 0 or mask.all():
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    # Beyond the border nothing is ignored: cv2's default for an erosion.
    return cv2.erode(mask.astype(np.uint8), disc).astype(bool)


def fit(mask: Mask, size: Size, path: Path, name: str) -> Mask:
    """A mask at the size of its photo, by nearest pixels.

    Raises:
        DiskHlocError: its aspect differs by more than 1 %.
    """
    height, width = mask.shape
    if (width, height) == size:
        return mask
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise DiskHlocError(
            f"the mask in {path} is {width}x{height} px, but the photo {name} is "
            f"{size[0]}x{size[1]} px: of another shape (masks are of the photo as stored, without "
            "EXIF rotation)"
        )
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(
        bool
    )


def find_mask(folder: Path, name: str) -> Path | None:
    """The mask of ``a/b.jpg`` in a folder: ``a/b.jpg.png``, ``a/b.png``, or another image type."""
    image = folder / name
    others = [suffix for suffix in SUFFIXES if suffix != ".png"]
    candidates = [
        image.with_name(f"{stem}{suffix}")
        for suffix in (".png", *others)
        for stem in (image.name, image.stem)
    ]
    return next((path for path in candidates if path.is_file()), None)


def read_mask(path: Path, invert: bool = False, ignore_labels: Iterable[int] | None = None) -> Mask:
    """One mask file.

    Args:
        path: an image. Black is ignored: exactly 0, as in COLMAP; below 128 in lossy formats.
        invert: black is kept, everything else is ignored.
        ignore_labels: the image holds ids (8 or 16 bits, a palette's indices, or COCO's panoptic
            R + 256 G + 65536 B); these are ignored, all others kept.

    Returns:
        (H, W) bool.

    Raises:
        DiskHlocError: the file cannot be read.
    """
    try:
        with opened(path) as image:
            if image is None:
                raise ImageReadError("no image")
            values = _labels(image) if ignore_labels is not None else _gray(image)
    except (*PARSER_ERRORS, MemoryError, ImageReadError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"the mask {path} cannot be read: {reason}") from error
    if ignore_labels is not None:
        return ~np.isin(values, list(ignore_labels))
    threshold = _LOSSY_THRESHOLD if path.suffix.lower() in _LOSSY_SUFFIXES else 1
    white: Mask = values >= threshold
    return ~white if invert else white


def _gray(image: Image.Image) -> np.ndarray:
    # Pillow clips 16 bits at 255 or shifts them, as its version has it.
    wide = image.mode.startswith(("I", "F"))
    return np.asarray(image if wide else image.convert("RGB").convert("L"))


def _labels(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if values.ndim == 2 or values.shape[2] < 3:
        # With an alpha channel at most.
        return values.reshape(*values.shape[:2], -1)[..., 0].astype(np.int64)
    red, green, blue = (values[..., i].astype(np.int64) for i in range(3))
    return red + 256 * green + 65536 * blue


def log_missing(missing: Collection[str], num_images: int) -> None:
    """Say of how many of ``num_images`` images there was no mask, if of any."""
    if missing:
        logger.info("%d of %d images have no mask: all of them was kept", len(missing), num_images)


def to_json(conf: Mapping[str, Any]) -> dict[str, Any]:
    """A conf of masks as plain JSON, less what is default, for a file's note of its origin."""
    changed = {key: value for key, value in conf.items() if value != DEFAULT_CONF.get(key)}
    result: dict[str, Any] = json.loads(json.dumps(changed, default=str))
    return result
