"""Run a training, from a data set to checkpoints, or resume one.

No random number depends on earlier ones: the order of the tuples depends on the seed and the number
of the pass, and keypoints on the seed, the number of the batch and the rank of the device. The
state of a run is therefore its parameters, those of its optimizer, and the number of finished
batches. A killed run that is resumed gives the same results, bit-identical on a CPU.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from disk_hloc import device as devices_of_torch
from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.output_folder import claimed
from disk_hloc.log import logger

from . import checkpoints, networks
from .data import Batch, read_ahead
from .optimizers import optimizer_of
from .session import Session
from .settings import require_same_settings
from .sources import Source, Validation, training_source, validation_source
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
    """Train a network.

    Args:
        dataset: ``dataset.json`` (:mod:`disk_hloc.io.training.dataset`), or a folder with the
            release's ``train/dataset.json`` and ``test/dataset.json``; or a folder of photos, if
            the conf's ``data: warped`` is on.
        out: gets ``save-E.pth`` of each epoch E, ``state.pt``, TensorBoard's event files, and
            ``pictures/``.
        conf: see :func:`disk_hloc.train.settings.settings`.
        validation: another data set, or folder of photos, to validate on after each epoch.
        seed: seed of all random numbers.
        device: ``auto``, ``cpu``, ``cuda``, ...
        precision: precision of the network's convolutions, a key of :data:`PRECISIONS`.
        devices: number of devices, each with its own batches; their gradients are averaged.
        workers: number of threads that read photos.
        save_every: number of steps between two saved states.
        overwrite: start over instead of resuming.

    Returns:
        Path of the checkpoint of the last epoch.

    Raises:
        Busy: another run writes to ``out``.
        DiskHlocError: the data cannot be read, the folder has a run with other settings or other
            data, or there is nothing left to do.
    """
    paths = (dataset, validation) if conf["data"]["warped"] else _sets(dataset, validation)
    source = training_source(paths[0], conf, seed)
    test = validation_source(paths[1], conf, seed) if paths[1] else None
    if test is None:
        logger.warning("No data set to validate on (--validation): epochs are not validated")
    fabric = _fabric(device, precision, devices)
    fabric.launch()
    # Of several processes the first keeps other runs out.
    with claimed(out) if fabric.is_global_zero else nullcontext():
        options = {"seed": seed, "precision": precision, "devices": devices}
        return _run(fabric, source, test, out, conf, options, workers, save_every, overwrite)


def _run(
    fabric: Fabric,
    source: Source,
    test: Validation | None,
    out: Path,
    conf: Conf,
    options: dict[str, Any],
    workers: int,
    save_every: int,
    overwrite: bool,
) -> Path:
    """Train, or go on; see :func:`main`."""
    state = None if overwrite else checkpoints.load_state(out)
    data = source.data
    seed = options["seed"]
    run_settings = {**conf, "run": {**options, "data": data}}
    if state:
        former = state["settings"].setdefault("run", {})
        if "data" not in former:
            logger.info("%s does not say which data it was trained on: taken to be %s", out, data)
            former["data"] = data
        require_same_settings(state["settings"], run_settings, str(out))
    if fabric.is_global_zero:
        _clear(out, whole=overwrite)
    torch.manual_seed(seed)
    model = conf["model"]
    network = networks.build(model, from_files=not state)
    networks.set_training(network, model["trained"])
    if state:
        network.load_state_dict(state["network"])
    optimizer = optimizer_of(network, conf["optimizer"])
    session = Session(fabric, network, optimizer, run_settings, out, seed)
    if state:
        session.resume(state)
    stream = _stream(session, source, workers)
    epochs = conf["schedule"]["n_epochs"]
    if session.validated >= epochs:
        raise DiskHlocError(
            f"the run in {out} has finished its {epochs} epochs: increase --n-epochs, or start "
            "over with --overwrite"
        )
    with session.logging(), _delayed_interrupt(fabric.world_size == 1) as interrupted:
        for number in range(session.validated, epochs):
            train_epoch(session, number, stream, save_every, interrupted)
            if fabric.is_global_zero:
                path = checkpoints.checkpoint_path(out, session.epoch(number))
                checkpoints.save_checkpoint(
                    path, network.checkpoint(), run_settings, network.checkpoint_names
                )
            if test is not None:
                validate_epoch(session, number, test, workers, interrupted)
            session.validated = number + 1
            session.save()
    return checkpoints.checkpoint_path(out, session.epoch(epochs - 1))


def _sets(dataset: Path, validation: Path | None) -> tuple[Path, Path | None]:
    """Return the files to train and to validate on."""
    if dataset.is_dir() and (dataset / "train").is_dir():
        test = dataset / "test" / "dataset.json"
        return dataset / "train" / "dataset.json", validation or (test if test.exists() else None)
    return dataset, validation


def _fabric(device: str, precision: str, devices: int) -> Fabric:
    if precision not in PRECISIONS:
        raise DiskHlocError(
            f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}"
        )
    resolved = devices_of_torch.resolve(device)
    if resolved.type == "cuda" and devices > torch.cuda.device_count():
        raise DiskHlocError(
            f"--devices is {devices}, but this machine has {torch.cuda.device_count()} devices"
        )
    if resolved.index is not None and devices > 1:
        raise DiskHlocError(f"--device {device} is a single device, but --devices is {devices}")
    chosen: Any = devices if resolved.index is None else [resolved.index]
    return Fabric(accelerator=resolved.type, devices=chosen, precision=PRECISIONS[precision])  # type: ignore[arg-type]


def _stream(session: Session, source: Source, workers: int) -> Iterator[Batch]:
    """Yield the remaining batches, read ahead."""
    items = source.items(
        start=session.done,
        rank=session.fabric.global_rank,
        world_size=session.fabric.world_size,
    )
    left = session.end(session.settings["schedule"]["n_epochs"] - 1) - session.done
    return read_ahead(islice(items, max(0, left)), source.read, workers)


def _clear(out: Path, whole: bool) -> None:
    """Remove temporary files of a killed run, or, if ``whole``, all files of an earlier run."""
    patterns = [f".{checkpoints.STATE}.*", ".save-*.pth.*"]
    if whole:
        patterns += [
            checkpoints.STATE,
            "save-*.pth",
            "events.out.tfevents.*",
            "pictures/[0-9][0-9][0-9]-*.jpg",
        ]
    for pattern in patterns:
        for path in out.glob(pattern):
            path.unlink()


@contextmanager
def _delayed_interrupt(delayed: bool) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C stop the run between two steps; a second Ctrl-C stops it at once.

    SIGTERM does the same where it has a handler, as in the command, which waits only briefly for
    the step.

    Yields a function that returns whether the run should stop. With several devices Ctrl-C stops
    the run at once, since they would have to communicate at each step to agree on one.
    """
    requested = threading.Event()
    if not delayed or threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def request(*_: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handled:
        signal.signal(number, request)
    try:
        yield requested.is_set
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
