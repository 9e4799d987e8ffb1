"""The rows of a comparison: what each runs, and which files it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from disk_hloc import confs, models, plugin
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import conf_stem
from disk_hloc.io.digests import digest_of_data


class RowFiles(NamedTuple):
    """The files of a row. Rows with the same extractor share its features."""

    features: Path
    matches: Path
    sfm_dir: Path

    @classmethod
    def in_folder(cls, folder: Path) -> RowFiles:
        """Return the files that :func:`disk_hloc.pipelines.sfm.main` makes in a folder."""
        return cls(folder / "features.h5", folder / "matches.h5", folder / "sfm")


@dataclass(frozen=True)
class Row:
    """A row of a comparison.

    Attributes:
        name: a name of configs/compare.yaml, or ``extractor/matcher`` or ``dense/conf``.
        conf_names: what it runs: ``{extractor, matcher}`` or ``{dense}`` -> name of a conf; of a
            mix, the names of several (:func:`disk_hloc.plugin.find_parts`).
    """

    name: str
    conf_names: Mapping[str, str]

    @property
    def is_dense(self) -> bool:
        """Whether the row matches photos without keypoints of their own."""
        return "dense" in self.conf_names

    def confs(self, max_keypoints: int | None) -> dict[str, Any]:
        """Return the row's confs, by the keys of ``conf_names``; of a mix, by those of ``parts``.

        Args:
            max_keypoints: keypoints of an image, of each part of a mix; None leaves each conf's
                own number.

        Returns:
            ``{extractor, matcher}`` or ``{dense}`` -> conf; of a mix, ``{parts}`` -> name of each
            extractor -> ``{extractor, matcher}`` -> conf.

        Raises:
            DiskHlocError: a conf is unknown, hloc is needed and not installed, or the number of
                keypoints of a conf cannot be set.
        """
        if self.is_dense:
            found = plugin.find_conf("dense", self.conf_names["dense"])
            return {"dense": budgeted(found, max_keypoints)}
        extractor, matcher = self.conf_names["extractor"], self.conf_names["matcher"]
        ours = confs.extractors().keys() >= set(extractor.split("+"))
        ours = ours and confs.matchers().keys() >= set(matcher.split(","))
        if self.name in named_rows() and not ours:
            # Before the confs are looked up: their error would not say how to get hloc.
            plugin.import_provider(needed_for=self.name)
        found = {
            part.name: {
                "extractor": budgeted(part.extractor, max_keypoints),
                "matcher": part.matcher,
            }
            for part in plugin.find_parts(extractor, matcher)
        }
        return {"parts": found} if len(found) > 1 else found[extractor]

    def files(self, output: Path) -> RowFiles:
        """Return the row's files in the folder of a comparison."""
        files = RowFiles.in_folder(output / "rows" / _filename(self.name))
        if self.is_dense:
            return files
        return files._replace(features=_features(output, self.conf_names["extractor"]))

    def part_files(self, output: Path, names: Iterable[str]) -> dict[str, tuple[Path, Path]]:
        """Return the features and the matches of each part of a mix; rows share the features.

        Args:
            output: the folder of a comparison.
            names: of the parts, as :meth:`confs` has them.
        """
        folder = self.files(output).matches.parent / "parts"
        return {
            name: (_features(output, name), folder / conf_stem(name) / "matches.h5")
            for name in names
        }


def named_rows() -> dict[str, dict[str, str]]:
    """Return the rows of configs/compare.yaml: name -> ``{extractor, matcher}`` or ``{dense}``."""
    text = resources.files("disk_hloc.configs").joinpath("compare.yaml").read_text("utf-8")
    rows: dict[str, dict[str, str]] = yaml.safe_load(text)
    return rows


def find_row(name: str) -> Row:
    """Return a row by its name.

    Args:
        name: a name of configs/compare.yaml, or ``extractor/matcher`` or ``dense/conf``.

    Raises:
        DiskHlocError: the name is neither.
    """
    known = named_rows()
    if name in known:
        return Row(name, known[name])
    extractor, _, matcher = name.partition("/")
    if not extractor or not matcher:
        raise DiskHlocError(
            f"no row is called {name!r}; known: {', '.join(known)}; or write extractor/matcher"
        )
    if extractor == "dense":
        return Row(name, {"dense": matcher})
    return Row(name, {"extractor": extractor, "matcher": matcher})


def is_current(row: Row, former: Mapping[str, Any], max_keypoints: int | None) -> bool:
    """Return whether former results of a row were made with its confs and weights as they are."""
    try:
        now = made_with(row.confs(max_keypoints))
    except DiskHlocError:
        return True  # it cannot be run again
    return bool(former.get("made_with", now) == now)


def made_with(confs: Mapping[str, Any]) -> str:
    """Return the digest of a row's confs (:meth:`Row.confs`) and weights."""
    kinds = {"extractor": "extractors", "matcher": "matchers", "dense": "dense"}
    if "parts" in confs:
        return digest_of_data([[name, made_with(part)] for name, part in confs["parts"].items()])
    identities = {}
    for key, conf in confs.items():
        kind, name = kinds[key], conf["model"]["name"]
        model = conf["model"]
        if models.has(kind, name):
            model = models.load(kind, name).identity(model)  # type: ignore[call-overload]
        identities[key] = {**conf, "model": model}
    return digest_of_data(identities)


def budgeted(conf: Mapping[str, Any], max_keypoints: int | None) -> dict[str, Any]:
    """Return a conf with another number of keypoints, under the name that its model has for it.

    Raises:
        DiskHlocError: the conf has no such number.
    """
    if max_keypoints is None:
        return dict(conf)
    known = [key for key in ("max_keypoints", "max_num_keypoints") if key in conf["model"]]
    if not known:
        raise DiskHlocError(
            f"the conf of {conf['model']['name']} has no max_keypoints, so it cannot be given the "
            f"{max_keypoints} of the other rows: use a .yaml conf that has it, or omit "
            "--max-keypoints"
        )
    return {**conf, "model": {**conf["model"], known[0]: max_keypoints}}


def _features(output: Path, extractor: str) -> Path:
    return output / "features" / f"{_filename(extractor)}.h5"


def _filename(name: str) -> str:
    return name.replace("/", "_").lstrip(".")
