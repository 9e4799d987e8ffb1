"""A map of five small photos, which answers a query in a fraction of a second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2

CONF = """
output: feats-tiny
model:
  name: disk
  max_keypoints: 512
preprocessing:
  resize_max: 320
"""


@dataclass(frozen=True)
class TinyMap:
    """A map, and photos to ask it.

    Attributes:
        folder: the map, of five photos of Fountain-P11 at 384 x 256, at 47 N 8 E (not really).
        query: another one, of the same size, without EXIF data.
        elsewhere: a photo of another place.
    """

    folder: Path
    query: Path
    elsewhere: Path


def build_tiny_map(data: Path, folder: Path) -> TinyMap:
    """Build the map from the shared photos."""
    from disk_hloc.io.map_folder import read_map
    from disk_hloc.pipelines import map_build

    photos, query, elsewhere = folder / "photos", folder / "query.jpg", folder / "elsewhere.jpg"
    photos.mkdir()
    sources = sorted((data / "fountain_p11" / "images").iterdir())[2:8]
    for i, source in enumerate(sources):
        _reduce(source, query if i == 2 else photos / source.name)
    _reduce(sorted((data / "reichstag" / "images").iterdir())[0], elsewhere)
    (folder / "tiny.yaml").write_text(CONF)
    map_build.main(
        photos, folder / "map", extractor=str(folder / "tiny.yaml"), matcher="disk", turn="none",
        rescue=False,
    )  # fmt: skip
    origin = {"latitude": 47.0, "longitude": 8.0, "altitude": 400.0}
    georeference = read_map(folder / "map").model / "georeference.json"
    georeference.write_text(json.dumps({"origin": origin}))
    return TinyMap(folder / "map", query, elsewhere)


def _reduce(source: Path, target: Path) -> None:
    photo = cv2.imread(str(source))
    cv2.imwrite(str(target), cv2.resize(photo, (384, 256), interpolation=cv2.INTER_AREA))
