"""A training, from a data set to checkpoints; and on from where an earlier call ended.

Nothing that is drawn at random depends on what was drawn before: the order of the tuples follows
from the seed and the number of the pass, keypoints from the seed, the number of the batch and the
device's rank. So the state of a run is its parameters, those of its optimizer, and how many batches
are done; a run that was killed goes on to the same numbers, on a CPU to the bit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from disk_hloc import device as devices_of_torch
from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.training.dataset import TrainingScene, read_training_set
from disk_hloc.log import logger

from . import checkpoints
from .data import Batch, batches, load, read_ahead
from .network import Network
from .session import Session
from .settings import require_same_course
from .training_epoch import train_epoch
from .validation_epoch import validate_epoch

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def main(
    dataset: Path,
    out: Path,
    conf: Conf,
    *,
    validation: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "float32",
    devices: int = 1,
    workers: int = 2,
    save_every: int = 100,
    overwrite: bool = False,
) -> Path:
    """Train DISK.

    Args:
        dataset: ``dataset.json`` (:mod:`disk_hloc.io.training.dataset`), or a folder with the
            release's ``train/dataset.json`` and ``test/dataset.json``.
        out: gets ``save-E.pth`` of each epoch E, ``state.pt``, TensorBoard's event files, and
            ``pictures/``.
        conf: :func:`disk_hloc.train.settings.settings`.
        validation: another data set to validate on after each epoch.
        seed: of all that is random.
        device: ``auto``, ``cpu``, ``cuda``, ...
        precision: of the network's convolutions, a key of :data:`PRECISIONS`.
        devices: how many, each with batches of its own; their gradients are averaged.
        workers: threads that read photos.
        save_every: steps between two saved states.
        overwrite: start anew, instead of going on.

    Returns:
        The checkpoint of the last epoch.

    Raises:
        DiskHlocError: the data cannot be read, the folder holds a run of other settings, or there
            is nothing left to do.
    """
    train_path, validation_path = _sets(dataset, validation)
    scenes = read_training_set(train_path, depth=conf["reward"]["name"] == "depth")
    test_scenes = read_training_set(validation_path, depth=False) if validation_path else []
    if not test_scenes:
        logger.warning("No data set to validate on (--validation): epochs are not judged")
    state = None if overwrite else checkpoints.load_state(out)
    course = {**conf, "run": {"seed": seed, "precision": precision, "devices": devices}}
    if state:
        require_same_course(state["settings"], course, str(out))
    fabric = _fabric(device, precision, devices)
    fabric.launch()
    if fabric.is_global_zero:
        _clear(out, whole=overwrite)
    torch.manual_seed(seed)
    model = conf["model"]
    network = Network(
        model["desc_dim"], None if state else model["weights"], recompute=model["recompute"]
    )
    if state:
        network.load_state_dict(state["network"])
    optimizer = torch.optim.Adam(network.parameters(), lr=conf["optimizer"]["learning_rate"])
    session = Session(fabric, network, optimizer, course, out, seed)
    if state:
        session.resume(state)
    stream = _stream(session, scenes, workers)
    epochs = conf["schedule"]["n_epochs"]
    if session.validated >= epochs:
        raise DiskHlocError(
            f"{out} holds a run that has ended after {epochs} epochs: give more --n-epochs, or "
            "start anew with --overwrite"
        )
    with session.logging(), _delayed_interrupt(fabric.world_size == 1) as interrupted:
        for number in range(session.validated, epochs):
            train_epoch(session, number, stream, save_every, interrupted)
            if fabric.is_global_zero:
                path = checkpoints.checkpoint_path(out, session.epoch(number))
                checkpoints.save_checkpoint(path, network.state_dict(), course)
            if test_scenes:
                validate_epoch(session, number, test_scenes, workers, interrupted)
            session.validated = number + 1
            session.save()
    return checkpoints.checkpoint_path(out, session.epoch(epochs - 1))


def _sets(dataset: Path, validation: Path | None) -> tuple[Path, Path | None]:
    """The files to train and to validate on."""
    if dataset.is_dir() and (dataset / "train").is_dir():
        test = dataset / "test" / "dataset.json"
        return dataset / "train" / "dataset.json", validation or (test if test.exists() else None)
    return dataset, validation


def _fabric(device: str, precision: str, devices: int) -> Fabric:
    if precision not in PRECISIONS:
        raise DiskHlocError(
            f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}"
        )
    resolved = devices_of_torch.resolve(device)
    if resolved.type == "cuda" and devices > torch.cuda.device_count():
        raise DiskHlocError(
            f"--devices is {devices}, but this machine has {torch.cuda.device_count()}"
        )
    if resolved.index is not None and devices > 1:
        raise DiskHlocError(f"--device {device} is one device, and --devices is {devices}")
    chosen: Any = devices if resolved.index is None else [resolved.index]
    return Fabric(accelerator=resolved.type, devices=chosen, precision=PRECISIONS[precision])  # type: ignore[arg-type]


def _stream(session: Session, scenes: Sequence[TrainingScene], workers: int) -> Iterator[Batch]:
    """The batches that are left, read ahead."""
    conf = session.settings
    order = batches(
        scenes,
        conf["data"]["train_scene_limit"],
        conf["schedule"]["batch_size"],
        session.seed,
        start=session.done,
        rank=session.fabric.global_rank,
        world_size=session.fabric.world_size,
    )
    left = session.end(conf["schedule"]["n_epochs"] - 1) - session.done
    size = conf["preprocessing"]
    read = partial(
        load, scenes, size=(size["width"], size["height"]), interpolation=size["interpolation"]
    )
    return read_ahead(islice(order, max(0, left)), read, workers)


def _clear(out: Path, whole: bool) -> None:
    """Remove what a killed run left half written, or all that an earlier run wrote."""
    patterns = [f".{checkpoints.STATE}.*", ".save-*.pth.*"]
    if whole:
        patterns += [checkpoints.STATE, "save-*.pth", "events.out.tfevents.*", "pictures/*.jpg"]
    for pattern in patterns:
        for path in out.glob(pattern):
            path.unlink()


@contextmanager
def _delayed_interrupt(delayed: bool) -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks for an end between two steps; a second one ends at once.

    Yields what says whether an end is asked for. Several devices cannot agree on a step without
    talking about it at each, so with them Ctrl-C ends at once.
    """
    asked = threading.Event()
    if not delayed or threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
