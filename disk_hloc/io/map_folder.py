"""The folder of a map: a model with all that a query needs, and what it was made with.

``map.json`` says which format the folder has, with which confs its features were made, and which
folder holds the current model. A new model is built in a folder beside it, and counts from the
moment at which ``map.json`` names it, so a run that is killed leaves the map as it was.

    map.json
    features.h5, pairs.txt, matches.h5      of all photos, as of ``disk-hloc reconstruct``
    global.h5, global.codebook.npz          their global descriptors
    thumbnails/NAME.jpg                     small versions of the photos
    model-1/                                a COLMAP model with its database, ``georeference.json``
                                            where it is in metres, and in ``index/`` what is in
                                            memory to localize (:mod:`disk_hloc.io.map_index`)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError

from .names import is_relative
from .replace import replace_json, sync_all

FORMAT = 1
SETTINGS = "map.json"
INDEX = "index"
_MODEL = "model-"
# Of a map to which no photos were added.
FIRST_MODEL = f"{_MODEL}1"
_CONFS = ("extractor", "matcher", "retrieval")


@dataclass(frozen=True)
class MapFolder:
    """A map on the disk.

    Attributes:
        path: its folder.
        model_name: the folder of the current model.
        extractor, matcher, retrieval: confs in hloc's form.
        made_by: the version of disk_hloc that built it.
    """

    path: Path
    model_name: str
    extractor: Mapping[str, Any]
    matcher: Mapping[str, Any]
    retrieval: Mapping[str, Any]
    made_by: str

    @property
    def model(self) -> Path:
        """The folder of the current model."""
        return self.path / self.model_name

    @property
    def index(self) -> Path:
        """The folder of what a localizer loads."""
        return self.model / INDEX

    @property
    def georeference(self) -> Path:
        """Where the model lies on the earth; the file is there if it is in metres."""
        return self.model / "georeference.json"

    @property
    def features(self) -> Path:
        """The features of all photos."""
        return self.path / "features.h5"

    @property
    def pairs(self) -> Path:
        """The pairs that were matched."""
        return self.path / "pairs.txt"

    @property
    def matches(self) -> Path:
        """The matches of these pairs."""
        return self.path / "matches.h5"

    @property
    def global_descriptors(self) -> Path:
        """The global descriptors of all photos; their codebook is beside them."""
        return self.path / "global.h5"

    def thumbnail(self, name: str) -> Path:
        """Return the path of the small version of a photo."""
        return self.path / "thumbnails" / f"{name}.jpg"

    def next_model(self) -> MapFolder:
        """Return this map with a new folder for its model, which nothing uses yet."""
        number = int(self.model_name.removeprefix(_MODEL) or 0) + 1
        return replace(self, model_name=f"{_MODEL}{number}")

    def commit(self) -> None:
        """Make this the map: its model counts from now on, and former ones are removed."""
        sync_all(self.model)
        confs = {name: dict(getattr(self, name)) for name in _CONFS}
        replace_json(
            self.path / SETTINGS,
            {"format": FORMAT, "disk_hloc": self.made_by, "model": self.model_name, **confs},
        )
        self.remove_other_models()

    def remove_other_models(self) -> None:
        """Remove models that do not count: former ones, and those of runs that were killed."""
        for path in self.path.glob(f"{_MODEL}*"):
            number = path.name.removeprefix(_MODEL)
            if path.name != self.model_name and number.isdigit() and path.is_dir():
                shutil.rmtree(path)


def new_map(
    path: Path,
    extractor: Mapping[str, Any],
    matcher: Mapping[str, Any],
    retrieval: Mapping[str, Any],
    made_by: str,
) -> MapFolder:
    """Return a map that is not on the disk yet; its first model goes to ``model``."""
    return MapFolder(path, FIRST_MODEL, extractor, matcher, retrieval, made_by)


def is_map(path: Path) -> bool:
    """Return whether a folder holds a map."""
    return (path / SETTINGS).is_file()


def read_map(path: Path) -> MapFolder:
    """Read which confs and which model a map has.

    Raises:
        DiskHlocError: the folder holds no map, a map of a newer version, or a broken one.
    """
    settings = path / SETTINGS
    if not settings.is_file():
        raise DiskHlocError(
            f"{path} has no {SETTINGS}, so it is not a map: build one with disk-hloc map build"
        )
    try:
        content = json.loads(settings.read_text(encoding="utf-8"))
        found, model = content["format"], content["model"]
        if not isinstance(found, int) or isinstance(found, bool):
            raise ValueError(f"the format is {found!r}")
        if found == FORMAT:
            confs = [content[name] for name in _CONFS]
            if not all(isinstance(conf["model"]["name"], str) for conf in confs):
                raise ValueError("a conf names no model")
            if not isinstance(confs[0]["preprocessing"], dict):
                raise ValueError("the conf of the extractor has no preprocessing")
            number = str(model).removeprefix(_MODEL)
            if not is_relative(str(model)) or f"{_MODEL}{number}" != model or not number.isdigit():
                raise ValueError(f"its model is {model!r}")
    except PARSER_ERRORS as error:
        raise DiskHlocError(f"{settings} is broken: {' '.join(str(error).split())}") from error
    if found != FORMAT:
        raise DiskHlocError(
            f"{path} is a map of format {found}, and this version reads {FORMAT}: use the version "
            f"of disk_hloc that made it ({content.get('disk_hloc')}), or build the map again"
        )
    extractor, matcher, retrieval = confs
    made_by = str(content.get("disk_hloc"))
    made = MapFolder(path, model, extractor, matcher, retrieval, made_by)
    if not made.index.is_dir():
        raise DiskHlocError(
            f"{settings} names {model}/{INDEX}, which does not exist: build the map again"
        )
    return made
