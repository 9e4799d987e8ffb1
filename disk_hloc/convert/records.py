"""The data that all formats share, and the attributes for data that a format does not hold."""

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
    """The features of one image in the release's layout.

    Attributes:
        name: name of the image, without extension.
        arrays: ``keypoints`` (N, 2), ``descriptors`` (N, D), ``scores`` (N,) and others.
        attributes: attributes of the keypoints.
    """

    name: str
    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Matches:
    """The matches of one pair.

    Attributes:
        pair: names of the images, without extension.
        indices: (2, K) integers.
        scores: (K,), or None.
        attributes: attributes of the indices.
    """

    pair: tuple[str, str]
    indices: np.ndarray
    scores: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Source:
    """An open data set.

    Attributes:
        names: names of the images, without extension.
        features: reads the features of one image.
        matches: yields the matches of all pairs.
        has_matches: whether there is a matches file.
        feature_attributes, match_attributes: attributes of the files.
        num_bytes: total size of the files in bytes.
    """

    names: list[str]
    features: Callable[[str], Features]
    matches: Callable[[], Iterator[Matches]]
    has_matches: bool
    feature_attributes: dict[str, Any]
    match_attributes: dict[str, Any]
    num_bytes: int


def noted_type(attributes: dict[str, Any], where: str) -> np.dtype[Any] | None:
    """Remove :data:`TYPE_ATTRIBUTE` and return its type, or None if it is missing.

    Raises:
        DiskHlocError: the attribute is not a numeric type.
    """
    noted = attributes.pop(TYPE_ATTRIBUTE, None)
    if noted is None:
        return None
    try:
        dtype = np.dtype(noted) if isinstance(noted, str) else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in "fiu":
        raise DiskHlocError(f"{where}: its attribute {TYPE_ATTRIBUTE} is not a numeric type")
    return dtype


def set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set a file's attributes, and a conf that keeps extraction and matching from adding to it."""
    file.attrs.update({CONF_ATTRIBUTE: _CONVERTED, **attributes})
