"""Extraction and matching by hloc's own loops, for models that are not ours."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from disk_hloc import plugin
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import list_keypoints
from disk_hloc.io.images import read_image
from disk_hloc.io.replace import replaced
from disk_hloc.io.store import CONF_ATTRIBUTE, reading
from disk_hloc.io.store.hdf5 import text_attribute

from . import mask


def unmasked_path(feature_path: Path) -> Path:
    """Return where features are before masked keypoints are removed from them."""
    return feature_path.with_name(f"{feature_path.stem}_unmasked{feature_path.suffix}")


def extract(
    conf: Mapping[str, Any],
    image_dir: Path,
    names: Sequence[str],
    feature_path: Path,
    masks: Mapping[str, Any] | None,
    overwrite: bool,
) -> Path:
    """Extract features by ``extract_features.main``, which knows no masks, then mask them.

    Args:
        conf: ``{output, model, preprocessing}``.
        image_dir: the photos.
        names: those to extract.
        feature_path: the features file to make or to add to.
        masks: where keypoints may be; None is everywhere.
        overwrite: make the file from scratch.

    Returns:
        ``feature_path``.

    Raises:
        DiskHlocError: an image cannot be read, a mask is broken, or the file has masked features
            and no masks are given.
    """
    if masks is None and not overwrite:
        _require_unmasked(feature_path)
    extracted = feature_path if masks is None else unmasked_path(feature_path)
    hloc = plugin.hloc_module("extract_features", needed_for=conf["model"]["name"])
    try:
        with needed_packages(conf):
            hloc.main(
                conf, image_dir, image_list=names, feature_path=extracted, overwrite=overwrite
            )
    except ValueError as error:
        # hloc's own message is at the end of a worker's traceback.
        unreadable = re.findall(r"Cannot read image (.+)\.", str(error))
        if not unreadable:
            raise
        raise DiskHlocError(
            f"{unreadable[-1]} cannot be read by hloc, which stops there: fix it, convert it to "
            "JPEG or remove it, then run the same command again"
        ) from error
    if masks is not None:
        mask.main(masks, extracted, feature_path, overwrite=True)
    return feature_path


def match(
    conf: Mapping[str, Any],
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    reference_path: Path | None,
    overwrite: bool,
) -> Path:
    """Match pairs by ``match_features.main``. See :func:`disk_hloc.stages.match.main`."""
    hloc = plugin.hloc_module("match_features", needed_for=conf["model"]["name"])
    with needed_packages(conf):
        path: Path = hloc.main(
            conf,
            pairs_path,
            feature_path,
            matches=match_path,
            features_ref=reference_path,
            overwrite=overwrite,
        )
    return path


def match_dense(
    conf: Mapping[str, Any],
    pairs_path: Path,
    image_dir: Path,
    feature_path: Path,
    match_path: Path,
    overwrite: bool,
) -> tuple[Path, Path]:
    """Match photos by ``match_dense.main``. See :func:`disk_hloc.stages.dense.main`."""
    hloc = plugin.hloc_module("match_dense", needed_for=conf["model"]["name"])
    with needed_packages(conf):
        hloc.main(
            conf, pairs_path, image_dir, matches=match_path, features=feature_path,
            overwrite=overwrite,
        )  # fmt: skip
    with replaced(feature_path) as partial:
        shutil.copyfile(feature_path, partial)
        with h5py.File(partial, "a", libver="latest") as file:
            for name in list_keypoints(feature_path):
                # hloc does not write it, and the other stages need it.
                if "image_size" not in file[name]:
                    height, width = read_image(image_dir / name).shape[:2]
                    file[name].create_dataset("image_size", data=np.array([width, height]))
    return feature_path, match_path


@contextmanager
def needed_packages(conf: Mapping[str, Any]) -> Iterator[None]:
    """Name the package that hloc's model of a conf needs and that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        absent = (error.name or "").split(".")[0]
        if absent in ("", "disk_hloc", (plugin.find_provider() or "").split(".")[0]):
            raise
        raise DiskHlocError(
            f"hloc's model {conf['model']['name']} needs the module {absent}, which is not "
            "installed: install its package, or if it is in hloc's third_party folder, get that "
            "with `git submodule update --init --recursive`"
        ) from error


def _require_unmasked(feature_path: Path) -> None:
    """Check that hloc's loop, which skips the images of a file, does not keep masked features.

    Raises:
        DiskHlocError: the features are masked.
    """
    if feature_path.is_file():
        with reading(feature_path) as file:
            if "masked" in (text_attribute(file, CONF_ATTRIBUTE) or ""):
                raise DiskHlocError(
                    f"{feature_path} was made with masks: use --overwrite or another file"
                )
