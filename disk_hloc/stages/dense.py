"""Photos and pairs to features and matches at once, by matchers that have no detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import plugin
from ..io.features import list_keypoints
from ..io.images import read_image
from ..io.store import appending


def main(
    conf: Mapping[str, Any],
    pairs_path: Path,
    image_dir: Path,
    feature_path: Path,
    match_path: Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
) -> tuple[Path, Path]:
    """Match pairs of photos with hloc's ``match_dense.main``.

    Args:
        conf: one of hloc's dense confs, ``{output, model, preprocessing, max_error, cell_size}``.
        pairs_path: the pairs file.
        image_dir: the photos.
        feature_path: gets the keypoints.
        match_path: gets the matches.
        overwrite: start both files anew.
        device: hloc chooses its own.

    Returns:
        ``feature_path`` and ``match_path``.

    Raises:
        DiskHlocError: hloc is missing.
    """
    hloc = plugin.hloc_module("match_dense", needed_for=conf["model"]["name"])
    hloc.main(
        conf, pairs_path, image_dir, matches=match_path, features=feature_path, overwrite=overwrite
    )
    for name in list_keypoints(feature_path):
        height, width = read_image(image_dir / name).shape[:2]
        with appending(feature_path, 0) as file:
            # hloc leaves it out, and the other stages ask for it.
            if "image_size" not in file[name]:
                file[name].create_dataset("image_size", data=np.array([width, height]))
    return feature_path, match_path
