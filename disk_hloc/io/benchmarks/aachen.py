"""Aachen Day-Night, and data sets in its layout: what a conf says, and whether all of it exists.

Sattler et al., CVPR 2012 and 2018; v1.1 by Zhang, Sattler, Scaramuzza, IJCV 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import read_yaml
from disk_hloc.io.names import require_relative

from .nvm import read_nvm

_REQUIRED = ("name", "images", "queries", "extractor", "matcher", "retrieval", "query_prefix")
_PATHS = ("name", "images", "model", "nvm", "intrinsics", "queries")
_DEFAULTS = {"num_covis": 20, "num_loc": 50}


def read_conf(name: str) -> dict[str, Any]:
    """Read the conf of a data set.

    Args:
        name: of a file in configs/, as ``aachen``, or the path of a .yaml file.

    Raises:
        DiskHlocError: there is no such file, a key is missing, or a path leads out of the data set.
    """
    if name.endswith((".yaml", ".yml")):
        conf = read_yaml(Path(name))
    else:
        with resources.as_file(resources.files("disk_hloc.configs") / f"{name}.yaml") as path:
            conf = read_yaml(path)
    missing = [key for key in _REQUIRED if not isinstance(conf, dict) or key not in conf]
    if missing or not ("model" in conf or {"nvm", "intrinsics"} <= set(conf)):
        raise DiskHlocError(
            f"the conf {name} has no {', '.join(missing) or 'model, or nvm and intrinsics'}"
        )
    for key in _PATHS:
        if key in conf:
            if not isinstance(conf[key], str):
                raise DiskHlocError(f"{key} of the conf {name} is not a string")
            require_relative(conf[key], f"{key} of the conf {name}")
    return _DEFAULTS | conf


def require_dataset(dataset: Path, conf: Mapping[str, Any]) -> None:
    """Check that a data set has what a conf names.

    Raises:
        DiskHlocError: something is missing.
    """
    keys = [key for key in ("images", "model", "nvm", "intrinsics") if key in conf]
    missing = [conf[key] for key in keys if not (dataset / conf[key]).exists()]
    if not list(dataset.glob(conf["queries"])):
        missing.append(conf["queries"])
    if missing:
        raise DiskHlocError(
            f"the data set {dataset} has no {', '.join(missing)}: see visuallocalization.net for "
            "the data and its layout"
        )


def sift_model(dataset: Path, conf: Mapping[str, Any], outputs: Path) -> Path:
    """Return the folder of the SIFT model, whose poses are known.

    Args:
        dataset: the data set.
        conf: its conf. Where it names an NVM file, the model is converted.
        outputs: gets ``sfm_sift/``, the converted model.

    Raises:
        DiskHlocError: the NVM file or the intrinsics are broken.
    """
    if "model" in conf:
        return dataset / conf["model"]
    folder = outputs / "sfm_sift"
    folder.mkdir(exist_ok=True)
    read_nvm(dataset / conf["nvm"], dataset / conf["intrinsics"]).write(folder)
    return folder
