"""The settings of a training: a conf of configs/train.yaml or a user's own, and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from disk_hloc import models
from disk_hloc.choices import (
    AFFINITIES,
    CREDITS,
    HARDEST_LOSSES,
    OBJECTIVES,
    OPTIMIZERS,
    REWARDS,
)
from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.models.resnet import BLOCKS
from disk_hloc.plugin import find_conf

from .networks import NETWORKS, require_divisible

# The section and key that each option of the command sets.
OPTIONS = {
    "reward": ("reward", "name"),
    "height": ("preprocessing", "height"),
    "width": ("preprocessing", "width"),
    "batch_size": ("schedule", "batch_size"),
    "substep": ("schedule", "substep"),
    "chunk_size": ("schedule", "chunk_size"),
    "warmup": ("schedule", "warmup"),
    "n_epochs": ("schedule", "n_epochs"),
    "epoch_offset": ("schedule", "epoch_offset"),
    "train_scene_limit": ("data", "train_scene_limit"),
    "test_scene_limit": ("data", "test_scene_limit"),
    "desc_dim": ("model", "desc_dim"),
    "load": ("model", "weights"),
    "imagenet": ("model", "imagenet"),
    "recompute": ("model", "recompute"),
    "credit": ("estimator", "credit"),
    "learning_rate": ("optimizer", "learning_rate"),
    "warped": ("data", "warped"),
}
_CHOICES = {
    ("reward", "name"): REWARDS,
    ("estimator", "credit"): CREDITS,
    ("estimator", "affinity"): AFFINITIES,
    ("objective", "name"): OBJECTIVES,
    ("hardest", "loss"): HARDEST_LOSSES,
    ("optimizer", "name"): OPTIMIZERS,
    ("data", "warped"): (False, True),
    ("model", "depth"): tuple(BLOCKS),
}
_AT_LEAST_ONE = [
    *((section, key) for section, key in OPTIONS.values() if section == "schedule"),
    ("data", "train_scene_limit"),
    ("data", "test_scene_limit"),
    ("model", "desc_dim"),
    ("model", "cell_size"),
    ("validation", "max_iterations"),
    ("line_to_window", "spacing"),
    ("line_to_window", "line_samples"),
    ("hardest", "every"),
    ("attention", "window"),
    ("warp", "views"),
]
# The keys of a network in a conf, besides its own.
_OF_ALL_NETWORKS = ("name", "weights", "cell_size", "trained")
# Settings that may change when a run is resumed, since they do not affect earlier batches.
_MAY_CHANGE = (("schedule", "n_epochs"), ("model", "recompute"), ("validation", "pictures"))


def settings(name: str = "disk", options: Mapping[str, Any] | None = None) -> Conf:
    """Return a complete conf.

    Args:
        name: name in configs/train.yaml, or a yaml file that changes parts of ``disk``.
        options: values by the keys of :data:`OPTIONS`; None changes nothing.

    Raises:
        DiskHlocError: the conf does not exist, or a key or value is invalid.
    """
    conf = _merged(find_conf("train", "disk"), find_conf("train", name), name)
    for option, value in (options or {}).items():
        if value is not None:
            section, key = OPTIONS[option]
            if key not in conf[section]:
                raise DiskHlocError(
                    f"--{option.replace('_', '-')} is not an option of the network "
                    f"{conf['model']['name']}: leave it out"
                )
            conf[section][key] = value
    for (section, key), choices in _CHOICES.items():
        if key in conf[section] and conf[section][key] not in choices:
            raise DiskHlocError(
                f"{section}: {key} must be one of {', '.join(map(str, choices))}, found "
                f"{conf[section][key]!r}"
            )
    for section, key in _AT_LEAST_ONE:
        least = 0 if key in ("warmup", "epoch_offset") else 1
        value = conf[section].get(key, least)
        if not isinstance(value, int) or value < least:
            raise DiskHlocError(
                f"{section}: {key} must be an integer of at least {least}, found {value!r}"
            )
    size = conf["preprocessing"]
    model = conf["model"]
    stride = NETWORKS[model["name"]].stride
    require_divisible(size["height"], size["width"], model["cell_size"], stride)
    _require_geometry(conf)
    return conf


def _require_geometry(conf: Conf) -> None:
    """Check that the objective has the geometry that it needs.

    Raises:
        DiskHlocError: photos under homographies are to be judged by epipolar lines, or a tuple has
            one view.
    """
    if not conf["data"]["warped"]:
        return
    name, reward = conf["objective"]["name"], conf["reward"]["name"]
    if name == "line_to_window" or (name == "policy" and reward == "epipolar"):
        raise DiskHlocError(
            "photos under homographies have no epipolar lines (data: warped is on): use the reward "
            "depth with the objective policy, or the objective hardest"
        )
    if conf["warp"]["views"] < 2:
        raise DiskHlocError(
            f"warp: views must be at least 2, found {conf['warp']['views']}: matches need two"
        )


def trainable_models() -> tuple[str, ...]:
    """Return the names of the extractors that can be trained."""
    names = models.names("extractors")
    return tuple(name for name in names if models.load("extractors", name).trainable)


def require_same_settings(before: Mapping[str, Any], now: Mapping[str, Any], place: str) -> None:
    """Check that a run is resumed with the settings with which it started.

    Raises:
        DiskHlocError: the settings differ; the message names the differences.
    """
    # An earlier version did what the defaults say, and did not have all of the keys.
    defaults = find_conf("train", "disk")
    was = {key: {**defaults.get(key, {}), **before.get(key, {})} for key in now}
    changed = [
        f"{section}: {key} was {was[section].get(key)!r} and is now {value!r}"
        for section, values in now.items()
        for key, value in values.items()
        if was[section].get(key) != value and (section, key) not in _MAY_CHANGE
    ]
    if changed:
        raise DiskHlocError(
            f"{place} has a run with other settings ({'; '.join(changed)}): resume with those, "
            "start over with --overwrite, or use another folder"
        )


def _merged(base: Conf, changes: Mapping[str, Any], name: str) -> Conf:
    conf = {section: dict(values) for section, values in base.items()}
    network = changes.get("model", {}).get("name", base["model"]["name"])
    if network not in NETWORKS:
        raise DiskHlocError(f"model: name must be one of {', '.join(NETWORKS)}, found {network!r}")
    if network != base["model"]["name"]:
        shared = {key: base["model"][key] for key in _OF_ALL_NETWORKS}
        conf["model"] = {**shared, **NETWORKS[network].default_conf, "name": network}
    for section, values in changes.items():
        if section not in conf or not isinstance(values, Mapping):
            raise DiskHlocError(
                f"the conf {name} has an unknown section {section!r}; expected {', '.join(base)}"
            )
        for key, value in values.items():
            if key not in conf[section]:
                raise DiskHlocError(
                    f"the conf {name} has an unknown key {section}: {key}; expected "
                    f"{', '.join(base[section])}"
                )
            conf[section][key] = value
    return conf
