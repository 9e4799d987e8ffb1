"""A short training of an extractor's network, which starts where DISK's own ended."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.replace import replace_text, replaced

from .settings import settings

# The one whose settings these are.
NETWORK = "disk"
# The epoch at which DISK's annealing has ended: penalties at their full height, and an inverse
# temperature of 46.5; the paper's last fine-tuning ended best at 45.
ANNEALED_EPOCH = 18


def options(
    conf: Mapping[str, Any],
    *,
    with_depth: bool,
    image_size: tuple[int, int],
    steps: int,
    learning_rate: float,
) -> dict[str, Any]:
    """Return the settings of the training that are not DISK's own.

    Args:
        conf: the conf of the extractor.
        with_depth: reward matches by depth, otherwise by epipolar geometry.
        image_size: (width, height) of the photos in training, in multiples of 16.
        steps: training steps, each on one tuple.
        learning_rate: Adam's.

    Raises:
        DiskHlocError: the network of the extractor cannot be fine-tuned, or a setting is wrong.
    """
    if conf["model"]["name"] != NETWORK:
        raise DiskHlocError(
            f"the extractor runs {conf['model']['name']}: only the network of {NETWORK} can be "
            "fine-tuned; train others by disk-hloc train"
        )
    chosen = {
        "reward": "depth" if with_depth else "epipolar",
        "width": image_size[0],
        "height": image_size[1],
        "batch_size": 1,
        "chunk_size": steps,
        "n_epochs": 1,
        "epoch_offset": ANNEALED_EPOCH,
        "load": conf["model"].get("weights", "depth"),
        "learning_rate": learning_rate,
    }
    settings(NETWORK, chosen)
    return chosen


def main(
    dataset: Path, output: Path, options: Mapping[str, Any], *, seed: int, device: str
) -> tuple[Path, float | None]:
    """Train, or take the weights of a training that has ended.

    Args:
        dataset: the ``dataset.json`` to train on.
        output: gets ``training/`` and ``weights.pth``.
        options: those of :func:`options`.
        seed: of all random numbers.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        The path of the new weights, and the seconds of their training, None if an earlier run
        trained them.

    Raises:
        DiskHlocError: a package is missing, or as :func:`disk_hloc.train.run.main`.
    """
    try:
        from . import checkpoints, run
    except ModuleNotFoundError as error:
        raise DiskHlocError(
            f"training needs {error.name}: pip install 'disk_hloc[train]'"
        ) from error
    weights, folder = output / "weights.pth", output / "training"
    # The training writes this checkpoint, whole, at its very end.
    last = checkpoints.checkpoint_path(folder, ANNEALED_EPOCH)
    seconds = None
    if not last.exists():
        start = time.perf_counter()
        run.main(dataset, folder, settings(NETWORK, options), seed=seed, device=device)
        seconds = round(time.perf_counter() - start, 1)
    with replaced(weights) as partial:
        shutil.copyfile(last, partial)
    return weights, seconds


def write_conf(path: Path, conf: Mapping[str, Any], weights: Path) -> Path:
    """Write the conf of an extractor with new weights.

    Args:
        path: the yaml file.
        conf: the conf with the old weights.
        weights: the new weights.

    Returns:
        ``path``.
    """
    tuned = {
        **conf,
        "output": f"{conf['output']}-finetuned",
        "model": {**conf["model"], "weights": str(weights.absolute())},
    }
    replace_text(path, yaml.safe_dump(tuned, sort_keys=False))
    return path
