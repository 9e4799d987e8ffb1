"""A query photo: decoded, turned as the map's photos are, and its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disk_hloc import device as devices
from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.exif import Exif, read_exif
from disk_hloc.io.images import ImageReadError, decode_image, read_encoded
from disk_hloc.io.loader import prepare
from disk_hloc.io.map_index import MapIndex
from disk_hloc.io.masks import read_mask
from disk_hloc.models import turn_votes, vlad
from disk_hloc.models.turn_votes import Oriented
from disk_hloc.stages.extract import extract_photos

# How many photos of the map a query is compared with to find its turn.
_NUM_LOOKS = 10
_CLUSTERS = 32

Source = Path | str | bytes | np.ndarray


@dataclass(frozen=True)
class Query:
    """A query in memory.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, as stored.
        exif: what its EXIF data say; empty for an array.
        mask: (H, W) bool, True where keypoints may be, or None.
    """

    pixels: np.ndarray
    exif: Exif
    mask: NDArray[np.bool_] | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_query(source: Source, mask: Path | str | np.ndarray | None = None) -> Query:
    """Decode a query.

    Args:
        source: the path of a photo, the bytes of its file, or (H, W, 3) uint8 RGB or (H, W) gray.
        mask: the path of a mask, black where no keypoints may be, or (H, W) bool.

    Raises:
        DiskHlocError: the photo or the mask cannot be read, or their sizes differ.
    """
    exif = Exif()
    if isinstance(source, np.ndarray):
        pixels = _pixels(source)
    else:
        file = Path(source) if isinstance(source, (str, Path)) else bytes(source)
        try:
            pixels = decode_image(read_encoded(file))
        except ImageReadError as error:
            shown = "the photo" if isinstance(file, bytes) else file
            raise DiskHlocError(f"{shown} cannot be read: {error}") from error
        exif = read_exif(file)
    if isinstance(mask, (str, Path)):
        mask = read_mask(Path(mask))
    if mask is not None and mask.shape != pixels.shape[:2]:
        raise DiskHlocError(
            f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, the photo {pixels.shape[1]} x "
            f"{pixels.shape[0]}"
        )
    return Query(pixels, exif, None if mask is None else mask.astype(bool))


def _pixels(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise DiskHlocError(
            f"expected a photo of shape (H, W, 3) and dtype uint8, found {array.shape} and "
            f"{array.dtype}"
        )
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.shape[2] != 3:
        raise DiskHlocError(f"expected a photo of 3 channels (RGB), found {array.shape[2]}")
    return array


class Turner:
    """Finds by how many quarters a query is turned against the photos of a map.

    By the votes of :mod:`disk_hloc.models.turn_votes` with those photos that look most like it,
    whichever way up; where they do not agree, its EXIF data say it.
    """

    def __init__(self, index: MapIndex) -> None:
        self.index = index
        pool = index.look_descriptors
        chosen = np.linspace(0, max(len(pool) - 1, 0), min(_CLUSTERS, len(pool))).astype(np.int64)
        self.codebook = turn_votes.comparable(pool[chosen])
        self.vectors = np.stack(
            [self._vector(Oriented(*index.look(i))) for i in range(len(index.names))]
        )

    def _vector(self, look: Oriented) -> np.ndarray:
        if not len(self.codebook):
            return np.zeros(1, np.float32)
        return vlad.describe(turn_votes.comparable(look.descriptors).T, self.codebook)

    def __call__(self, query: Query) -> int:
        """Return the quarters, 0 to 3 counter-clockwise, by which to turn a query."""
        gray = np.asarray(Image.fromarray(query.pixels).convert("L"))
        look = turn_votes.describe(gray, query.mask)
        nearest = np.argsort(-(self.vectors @ self._vector(look)), kind="stable")[:_NUM_LOOKS]
        best, turn = 0, query.exif.quarter_turns or 0
        for i in nearest:
            counted = turn_votes.votes(Oriented(*self.index.look(i)), look)
            quarters = turn_votes.clear_turn(counted)
            if quarters is not None and counted[quarters] > best:
                best = int(counted[quarters])
                turn = int(self.index.turns[i] + quarters) % 4
        return turn


class QueryExtractor:
    """Extracts a query's features by the conf of the map, whose network is loaded once.

    Args:
        conf: of the map's extractor.
        max_keypoints: the largest number of keypoints, or that of the conf.
        device: see :func:`disk_hloc.device.resolve`.
    """

    def __init__(self, conf: Mapping[str, Any], max_keypoints: int | None, device: str) -> None:
        model_class = models.load("extractors", conf["model"]["name"])
        model = {**model_class.whole_conf(conf["model"]), "name": conf["model"]["name"]}
        if max_keypoints is not None:
            model["max_keypoints"] = min(max_keypoints, model["max_keypoints"] or max_keypoints)
        self.model = model_class(model).to(devices.resolve(device))
        self.preprocessing = conf["preprocessing"]

    def __call__(self, query: Query, turn: int) -> dict[str, np.ndarray]:
        """Return the arrays of :func:`disk_hloc.stages.extract.extract_photos`.

        Raises:
            DiskHlocError: there is not enough memory.
        """
        pixels = query.pixels
        if self.preprocessing.get("grayscale"):
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))
        try:
            photo = prepare("the photo", pixels, self.preprocessing, query.mask, turn)
        except ImageReadError as error:
            raise DiskHlocError(f"the photo cannot be resized: {error}") from error
        ((features, _),) = extract_photos(self.model, [photo])
        return features
