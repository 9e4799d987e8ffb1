"""What the formats hold in common, and the attributes for what they have no place for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.store import CONF_ATTRIBUTE

NAME_ATTRIBUTE = "image_name"
SIZE_ATTRIBUTE = "image_size"
TYPE_ATTRIBUTE = "converted_from_dtype"
KEY_ATTRIBUTE = "imc_key"
FIRST_ATTRIBUTE = "first_image"
MADE_UP_ATTRIBUTE = "made_up"
_CONVERTED = '{"converted": true}'


@dataclass
class Features:
    """One image's features in the release's layout.

    Attributes:
        name: of the image, without extension.
        arrays: ``keypoints`` (N, 2), ``descriptors`` (N, D), ``scores`` (N,) and others.
        attributes: of the keypoints.
    """

    name: str
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Matches:
    """One pair's matches.

    Attributes:
        pair: the images' names, without extension.
        indices: (2, K).
        scores: (K,), or None.
        attributes: of the indices.
    """

    pair: tuple[str, str]
    indices: np.ndarray
    scores: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Source:
    """An open data set.

    Attributes:
        names: of the images, without extension.
        features: reads those of one image.
        matches: reads those of all pairs, one after the other.
        has_matches: whether there is a matches file at all.
        feature_attributes, match_attributes: of the files.
        num_bytes: of all files.
    """

    names: list[str]
    features: Callable[[str], Features]
    matches: Callable[[], Iterator[Matches]]
    has_matches: bool
    feature_attributes: dict[str, Any]
    match_attributes: dict[str, Any]
    num_bytes: int


def noted_type(attributes: dict[str, Any], where: str) -> np.dtype[Any] | None:
    """The type that :data:`TYPE_ATTRIBUTE` notes, which is taken out; None if there is none.

    Raises:
        DiskHlocError: it notes no type of numbers.
    """
    noted = attributes.pop(TYPE_ATTRIBUTE, None)
    if noted is None:
        return None
    try:
        dtype = np.dtype(noted) if isinstance(noted, str) else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in "fiu":
        raise DiskHlocError(f"{where}: its attribute {TYPE_ATTRIBUTE} is no type of numbers")
    return dtype


def set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """A file's attributes, and a note that keeps extraction or matching from going on in it."""
    file.attrs.update({CONF_ATTRIBUTE: _CONVERTED, **attributes})
