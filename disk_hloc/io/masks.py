"""Read masks, which say where in a photo keypoints are allowed.

A mask is a boolean image of the photo as stored (EXIF orientation is not applied), True where
keypoints are allowed. It is read from a folder of images in COLMAP's convention, from one image for
all photos, from label maps, or from a COCO file. With several sources a pixel is kept if all of
them keep it.

Keypoints are masked as in COLMAP. A keypoint at (x, y), with (0, 0) at the centre of the top-left
pixel, is in the pixel (floor(x + 0.5), floor(y + 0.5)): a pixel extends half a pixel to each side
of its centre, and a point exactly between two pixels belongs to the right or lower one. The
keypoint is kept if the mask keeps that pixel. Keypoints outside the image are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disk_hloc.choices import MISSING_MASK
from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.log import logger

from .coco import read_coco
from .digests import digest_of_arrays
from .images import SUFFIXES, ImageReadError, opened
from .store.fingerprints import NOTHING

Mask = NDArray[np.bool_]
Size = tuple[int, int]  # width, height
# (image name, size) -> mask, or None if the source has no mask for the image.
Source = Callable[[str, Size], "Mask | None"]

DEFAULT_CONF: dict[str, Any] = {
    "folder": None,  # COLMAP's convention: a/b.jpg.png for a/b.jpg; also a/b.png
    "file": None,  # one image for all photos
    "invert": False,  # ignore white instead of black in `folder` and `file`
    "ignore_labels": None,  # `folder` and `file` hold label ids; ignore these
    "coco": None,  # a COCO file of annotations or results
    "ignore_classes": None,  # names or ids; None: every annotation
    "min_score": 0.0,
    "dilate": 0,  # grow the ignored region by this many pixels
    "missing": "keep",  # or "error"
}

# Of the conf: the sources.
_FILES = ("folder", "file", "coco")
# Largest relative difference in aspect ratio between a mask and a photo of another size.
ASPECT_TOLERANCE = 0.01
# Lossy formats have no exact black.
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp", ".heic", ".heif", ".hif", ".avif")
_LOSSY_THRESHOLD = 128


class Masks:
    """The masks of a set of images.

    Attributes:
        conf: :data:`DEFAULT_CONF` with the user's values.
        missing: names of requested images for which no source has a mask; they are kept as a whole.

    Raises:
        DiskHlocError: a key or a class is unknown, or a folder or file does not exist.
    """

    def __init__(self, conf: Mapping[str, Any]) -> None:
        unknown = set(conf) - set(DEFAULT_CONF)
        if unknown:
            raise DiskHlocError(f"unknown keys for masks: {', '.join(sorted(unknown))}")
        self.conf = {**DEFAULT_CONF, **conf}
        if self.conf["missing"] not in MISSING_MASK:
            raise DiskHlocError(
                f"missing (masks) must be 'keep' or 'error', found {self.conf['missing']!r}"
            )
        if self.conf["dilate"] < 0:
            raise DiskHlocError(f"dilate must not be negative, found {self.conf['dilate']}")
        self.missing: set[str] = set()
        self._sources = list(self._open_sources())
        if not self._sources:
            raise DiskHlocError("no masks given: give a folder, a file or a COCO file")

    def __call__(self, name: str, size: Size) -> Mask:
        """Return the mask of one image.

        Args:
            name: name of the image, relative to the image folder.
            size: width and height of the image in pixels.

        Returns:
            (height, width) bool, True where keypoints are allowed.

        Raises:
            DiskHlocError: a mask cannot be read or has another aspect ratio, or no source has a
                mask and ``missing`` is ``error``.
        """
        found = [mask for mask in (read(name, size) for read in self._sources) if mask is not None]
        if not found:
            if self.conf["missing"] == "error":
                raise DiskHlocError(f"there is no mask for {name}: add one, or set missing to keep")
            self.missing.add(name)
            return np.ones((size[1], size[0]), dtype=bool)
        keep: Mask = np.logical_and.reduce(found)
        return grow_ignored(keep, self.conf["dilate"])

    def options(self) -> dict[str, Any]:
        """Return what masks depend on besides the files that they are read from."""
        return {key: value for key, value in self.conf.items() if key not in _FILES}

    def files_of(self, name: str) -> list[Path]:
        """Return the files that the mask of one image is read from."""
        paths = [Path(self.conf[key]) for key in ("file", "coco") if self.conf[key] is not None]
        if self.conf["folder"] is not None:
            found = find_mask(Path(self.conf["folder"]), name)
            paths += [] if found is None else [found]
        return paths

    def log_missing(self, num_images: int) -> None:
        """Log how many of ``num_images`` images have no mask, if any."""
        log_missing(self.missing, num_images)

    def _open_sources(self) -> Iterable[Source]:
        conf = self.conf
        labels = conf["ignore_labels"]
        if conf["folder"] is not None:
            folder = Path(conf["folder"])
            if not folder.is_dir():
                raise DiskHlocError(f"the folder of masks {folder} does not exist")

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


def digest_of_mask(mask: Mask | None) -> str:
    """Return the digest of a mask, :data:`NOTHING` for one that keeps everything."""
    if mask is None or mask.all():
        return NOTHING
    return digest_of_arrays([("mask", np.packbits(mask)), ("shape", np.array(mask.shape))])


def keep_keypoints(mask: Mask, keypoints: np.ndarray) -> NDArray[np.bool_]:
    """Determine which keypoints a mask keeps, by the rule above.

    Args:
        mask: (H, W) bool.
        keypoints: (N, 2) x and y in pixels, with (0, 0) at the centre of the top-left pixel.

    Returns:
        (N,) bool, True for the keypoints that are kept.
    """
    x, y = pixel_of(keypoints[:, 0]), pixel_of(keypoints[:, 1])
    height, width = mask.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    kept: NDArray[np.bool_] = inside & mask[np.where(inside, y, 0), np.where(inside, x, 0)]
    return kept


def pixel_of(coordinates: np.ndarray) -> NDArray[np.int64]:
    """Return the columns (or rows) of the pixels that contain the coordinates.

    Computed in float64, in which x + 0.5 is exact for a float32 x.
    """
    pixels: NDArray[np.int64] = np.floor(coordinates.astype(np.float64) + 0.5).astype(np.int64)
    return pixels


def grow_ignored(mask: Mask, pixels: int) -> Mask:
    """Grow the ignored region of a mask by a disc with a radius of ``pixels``."""
    if pixels == 0 or mask.all():
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    # By cv2's default for an erosion, nothing is ignored outside the image.
    return cv2.erode(mask.astype(np.uint8), disc).astype(bool)


def fit(mask: Mask, size: Size, path: Path, name: str) -> Mask:
    """Resize a mask to the size of its photo by nearest-neighbour interpolation.

    Args:
        mask: (H, W) bool.
        size: width and height of the photo in pixels.
        path, name: the mask's file and the photo's name, for the error.

    Returns:
        (height, width) bool.

    Raises:
        DiskHlocError: the aspect ratios differ by more than 1 %.
    """
    height, width = mask.shape
    if (width, height) == size:
        return mask
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise DiskHlocError(
            f"the mask in {path} is {width}x{height} px, but the photo {name} is "
            f"{size[0]}x{size[1]} px, with another aspect ratio (a mask must fit the photo as "
            "stored, without EXIF rotation)"
        )
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).astype(
        bool
    )


def mask_folder(conf: Mapping[str, Any] | None) -> Path | None:
    """Return the folder of masks that a conf names, if it names one."""
    folder = (conf or {}).get("folder")
    return None if folder is None else Path(folder)


def find_mask(folder: Path, name: str) -> Path | None:
    """Find the mask of ``a/b.jpg``: ``a/b.jpg.png``, ``a/b.png``, or one with another suffix."""
    image = folder / name
    others = [suffix for suffix in SUFFIXES if suffix != ".png"]
    candidates = [
        image.with_name(f"{stem}{suffix}")
        for suffix in (".png", *others)
        for stem in (image.name, image.stem)
    ]
    return next((path for path in candidates if path.is_file()), None)


def read_mask(path: Path, invert: bool = False, ignore_labels: Iterable[int] | None = None) -> Mask:
    """Read one mask file.

    Args:
        path: an image. Black is ignored: exactly 0, as in COLMAP, or below 128 in lossy formats.
        invert: keep black, and ignore everything else.
        ignore_labels: label ids to ignore, all others are kept. The image then holds ids (8 or 16
            bits, a palette's indices, or COCO's panoptic R + 256 G + 65536 B).

    Returns:
        (H, W) bool, True where keypoints are allowed.

    Raises:
        DiskHlocError: the file cannot be read.
    """
    try:
        with opened(path) as image:
            if image is None:
                raise ImageReadError("not an image")
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
    # Depending on its version, Pillow clips 16-bit values at 255 or shifts them.
    wide = image.mode.startswith(("I", "F"))
    return np.asarray(image if wide else image.convert("RGB").convert("L"))


def _labels(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if values.ndim == 2 or values.shape[2] < 3:
        # One channel, or one and alpha.
        return values.reshape(*values.shape[:2], -1)[..., 0].astype(np.int64)
    red, green, blue = (values[..., i].astype(np.int64) for i in range(3))
    return red + 256 * green + 65536 * blue


def log_missing(missing: Collection[str], num_images: int) -> None:
    """Log how many of ``num_images`` images have no mask, if any."""
    if not missing:
        return
    if len(missing) < num_images:
        logger.info(
            "%d of %d images have no mask: all their keypoints were kept", len(missing), num_images
        )
        return
    name = min(missing)
    logger.warning(
        "None of the %d images has a mask, so nothing was masked: a mask of %s is called %s.png or "
        "%s, in the same folders as the images",
        num_images,
        name,
        name,
        PurePosixPath(name).with_suffix(".png"),
    )


def input_files(conf: Mapping[str, Any]) -> dict[str, Path | None]:
    """Return the files and folders that masks come from, by what they are."""
    paths = {key: conf.get(key) for key in ("folder", "file", "coco")}
    return {f"{key} of masks": path and Path(path) for key, path in paths.items()}


def to_json(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the non-default values of a conf of masks as plain JSON, to be stored in a file."""
    changed = {key: value for key, value in conf.items() if value != DEFAULT_CONF.get(key)}
    result: dict[str, Any] = json.loads(json.dumps(changed, default=str))
    return result
