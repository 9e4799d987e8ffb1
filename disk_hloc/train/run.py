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

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .. import device as devices_of_torch
from ..confs import Conf
from ..errors import DiskHlocError
from ..eval.stereo import mean_accuracy
from ..io.training_set import TrainingScene, read_training_set
from ..log import logger
from ..models.peaks import sample_keypoints
from . import checkpoints, pictures
from .data import Batch, batches, load, read_ahead, tuple_order
from .estimator import PairFigures, backward_pairs, pair_loss
from .network import Features, Network, split
from .rewards import Reward, depth_reward, epipolar_reward
from .schedule import inverse_temperature, penalty_ramp
from .settings import require_same_course
from .validation import Figures, Match, detector, validate

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
REWARDS = {"depth": depth_reward, "epipolar": epipolar_reward}
# The figures' tags in TensorBoard; the first eight are the release's.
TAGS = {
    "n_kps": "test/discrete/n_kps",
    "n_pairs": "test/discrete/n_pairs",
    "tp": "test/discrete/tp",
    "fp": "test/discrete/fp",
    "reward": "test/discrete/reward",
    "precision": "test/discrete/precision",
    "rotation_error": "test/pose/Δ_θ",
    "translation_error": "test/pose/Δ_T",
    "n_inliers": "test/pose/n_inliers",
    "success": "test/pose/success",
}
AUC_LIMIT = 10
_LOGGED_EVERY_PAIR = ("rotation_error", "translation_error")


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
        dataset: ``dataset.json`` (:mod:`disk_hloc.io.training_set`), or a folder with the release's
            ``train/dataset.json`` and ``test/dataset.json``.
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
    run = Run(fabric, network, optimizer, course, out, seed)
    if state:
        run.resume(state)
    stream = _stream(run, scenes, workers)
    epochs = conf["schedule"]["n_epochs"]
    if run.validated >= epochs:
        raise DiskHlocError(
            f"{out} holds a run that has ended after {epochs} epochs: give more --n-epochs, or "
            "start anew with --overwrite"
        )
    with run.logging(), _delayed_interrupt(fabric.world_size == 1) as interrupted:
        for number in range(run.validated, epochs):
            run.train_epoch(number, stream, save_every, interrupted)
            if fabric.is_global_zero:
                path = checkpoints.checkpoint_path(out, run.epoch(number))
                checkpoints.save_checkpoint(path, network.state_dict(), course)
            if test_scenes:
                run.validate_epoch(number, test_scenes, workers, interrupted)
            run.validated = number + 1
            run.save()
    return checkpoints.checkpoint_path(out, run.epoch(epochs - 1))


class Run:
    """A training under way.

    Attributes:
        done: batches that are done.
        validated: epochs that are done and validated.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        optimizer: torch.optim.Optimizer,
        settings: Conf,
        out: Path,
        seed: int,
    ) -> None:
        self.fabric = fabric
        self.network = network
        self.optimizer = optimizer
        self.wrapped_network, self.wrapped_optimizer = fabric.setup(network, optimizer)
        self.settings = settings
        self.out = out
        self.seed = seed
        self.done = 0
        self.validated = 0
        self.writer: SummaryWriter | None = None

    def resume(self, state: dict[str, Any]) -> None:
        """Take what :meth:`save` saved; the network has its parameters already."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.done, self.validated = state["done"], state["validated"]
        logger.info("Going on in %s after %d batches", self.out, self.done)

    def save(self) -> None:
        """Save the state; what was logged until then is on disk before it is."""
        if not self.fabric.is_global_zero:
            return
        if self.writer is not None:
            self.writer.flush()
        checkpoints.save_state(
            self.out,
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "settings": self.settings,
                "done": self.done,
                "validated": self.validated,
            },
        )

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Write figures to TensorBoard meanwhile."""
        if not self.fabric.is_global_zero:
            yield
            return
        with SummaryWriter(str(self.out)) as self.writer:
            yield
        self.writer = None

    def epoch(self, number: int) -> int:
        """The epoch by which things are annealed and named, of the run's epoch ``number``."""
        return int(number + self.settings["schedule"]["epoch_offset"])

    def end(self, number: int) -> int:
        """How many batches are done after the run's epoch ``number``."""
        schedule = self.settings["schedule"]
        count = (number + 1) * schedule["chunk_size"]
        if schedule["epoch_offset"] == 0:
            count -= max(0, schedule["chunk_size"] - schedule["warmup"])
        return int(count)

    def train_epoch(
        self,
        number: int,
        stream: Iterator[Batch],
        save_every: int,
        interrupted: Callable[[], bool],
    ) -> None:
        """Do what is left of an epoch.

        Raises:
            KeyboardInterrupt: between two steps, the state being saved.
        """
        start, stop = self.end(number - 1) if number else 0, self.end(number)
        substep = self.settings["schedule"]["substep"]
        epoch = self.epoch(number)
        reward, loss = self._reward(epoch), self._loss(epoch)
        self.wrapped_network.train()
        rewards = []
        with self._progress(f"Epoch {epoch}", stop - start, self.done - start) as progress:
            for batch in islice(stream, stop - self.done):
                index = self.done - start + 1
                stepping = index % substep == 0 or self.done + 1 == stop
                figures = self._backward(batch, reward, loss, stepping)
                if stepping:
                    self.wrapped_optimizer.step()
                    self.wrapped_optimizer.zero_grad()
                rewards.append(float(np.mean([one.reward for one in figures])))
                self._log_training(figures)
                self.done += 1
                progress.update()
                progress.set_postfix(reward=f"{np.mean(rewards[-100:]):.2f}")
                if stepping and interrupted():
                    self.save()
                    raise KeyboardInterrupt
                if stepping and index // substep % save_every == 0:
                    self.save()
        self.save()
        if rewards and self.fabric.is_global_zero:
            logger.info("Epoch %d: expected reward of a pair %.3f", epoch, np.mean(rewards))

    def _backward(
        self, batch: Batch, reward: Reward, loss: Any, stepping: bool
    ) -> list[PairFigures]:
        """Gather the gradient of one batch."""
        fabric = self.fabric
        torch.manual_seed(batch_seed(self.seed, self.done, fabric.global_rank))
        batch = batch.to(fabric.device)
        cell = self.settings["model"]["cell_size"]
        with fabric.no_backward_sync(self.wrapped_network, enabled=not stepping):
            features = self.wrapped_network(batch.images, partial(sample_keypoints, cell=cell))
            surrogate, figures = backward_pairs(
                split(features, len(batch.views[0])), batch.views, reward, loss
            )
            fabric.backward(surrogate)
        return figures

    def _reward(self, epoch: int) -> Reward:
        conf = self.settings["reward"]
        return partial(
            REWARDS[conf["name"]],
            threshold=conf["threshold"],
            true_positive=conf["true_positive"],
            false_positive=conf["false_positive"] * penalty_ramp(epoch),
        )

    def _loss(self, epoch: int) -> Any:
        conf = self.settings["estimator"]
        return partial(
            pair_loss,
            inverse_temperature=inverse_temperature(
                epoch, conf["inverse_temperature"], conf["annealing_epochs"]
            ),
            keypoint_penalty=self.settings["reward"]["keypoint"] * penalty_ramp(epoch),
            credit=conf["credit"],
        )

    def _log_training(self, figures: Sequence[PairFigures]) -> None:
        if self.writer is not None:
            for tag, values in zip(PairFigures._fields, zip(*figures, strict=True), strict=True):
                self.writer.add_scalar(f"train/{tag}", float(np.mean(values)), self.done)

    @torch.no_grad()
    def validate_epoch(
        self,
        number: int,
        scenes: Sequence[TrainingScene],
        workers: int,
        interrupted: Callable[[], bool],
    ) -> None:
        """Validate the network on a fixed random choice of tuples.

        Raises:
            KeyboardInterrupt: the epoch is then validated by the next call.
        """
        conf, fabric = self.settings, self.fabric
        size, at_once = conf["preprocessing"], conf["schedule"]["batch_size"]
        order = tuple_order(scenes, conf["data"]["test_scene_limit"], self.seed, 0)
        parts = [order[i : i + at_once] for i in range(0, len(order), at_once)]
        mine = parts[fabric.global_rank :: fabric.world_size]
        read = partial(
            load, scenes, size=(size["width"], size["height"]), interpolation=size["interpolation"]
        )
        detect = detector(conf["validation"])
        self.wrapped_network.eval()
        figures, drawn = [], 0
        with self._progress(f"Validation {self.epoch(number)}", len(mine)) as progress:
            for batch in read_ahead(mine, read, workers):
                batch = batch.to(fabric.device)
                features = self.wrapped_network(batch.images, detect)
                of_pairs, matches = validate(features, batch, conf)
                figures += of_pairs
                for i, of_tuple in enumerate(split(features, len(batch.views[0]))):
                    if fabric.is_global_zero and drawn < conf["validation"]["pictures"]:
                        self._draw(number, drawn, batch, i, of_tuple, matches[i])
                        drawn += 1
                progress.update()
                if interrupted():
                    raise KeyboardInterrupt
        self._log_validation(number, self._gathered(figures))

    def _draw(
        self,
        number: int,
        name: int,
        batch: Batch,
        index: int,
        features: Sequence[Features],
        matches: Sequence[Match],
    ) -> None:
        per_tuple = len(batch.views[0])
        images = batch.images[index * per_tuple :][:per_tuple]
        heatmaps = torch.cat(
            [self.network.heatmap(self.network.gated(one[None])) for one in images]
        )
        threshold = self.settings["reward"]["threshold"]
        picture = pictures.tuple_picture(batch, index, heatmaps, features, matches, threshold)
        epoch = self.epoch(number)
        folder = self.out / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{epoch:03d}-{name}.jpg", quality=90)
        if self.writer is not None:
            values = np.asarray(picture)
            self.writer.add_image(f"test/tuple-{name}", values, epoch, dataformats="HWC")

    def _gathered(self, figures: list[Figures]) -> np.ndarray:
        """(P, F) figures of all devices' pairs."""
        own = torch.tensor(figures, dtype=torch.float64).reshape(-1, len(Figures._fields))
        if self.fabric.world_size == 1:
            return own.numpy()
        # Devices may have different numbers of pairs, and gather arrays of one shape alone.
        count = torch.tensor(len(own), device=self.fabric.device)
        most = int(torch.as_tensor(self.fabric.all_gather(count)).max())
        padded = torch.full((most, own.shape[1]), torch.nan, dtype=torch.float64)
        padded[: len(own)] = own
        gathered = torch.as_tensor(self.fabric.all_gather(padded.to(self.fabric.device)))
        flat = gathered.flatten(0, 1).cpu()
        return flat[flat.isfinite().all(dim=1)].numpy()

    def _log_validation(self, number: int, figures: np.ndarray) -> None:
        if self.writer is None:
            return
        epoch, columns = self.epoch(number), dict(zip(Figures._fields, figures.T, strict=True))
        # Each pair's, as the release has them: an epoch's follow the one's before.
        for name in _LOGGED_EVERY_PAIR:
            for i, value in enumerate(columns[name]):
                self.writer.add_scalar(TAGS[name], value, epoch * len(figures) + i)
        self.writer.add_scalar("test/pairs", len(figures), epoch)
        for name, values in columns.items():
            if name not in _LOGGED_EVERY_PAIR:
                self.writer.add_scalar(TAGS[name], values.mean(), epoch)
        errors = np.maximum(columns["rotation_error"], columns["translation_error"])
        auc = mean_accuracy(errors, AUC_LIMIT)
        self.writer.add_scalar(f"test/auc{AUC_LIMIT}", auc, epoch)
        logger.info(
            "Epoch %d: validation precision %.3f, reward %.2f, %.0f keypoints and %.0f matches of "
            "a pair, AUC at %d degrees %.3f",
            epoch, columns["precision"].mean(), columns["reward"].mean(), columns["n_kps"].mean(),
            columns["n_pairs"].mean(), AUC_LIMIT, auc,
        )  # fmt: skip

    def _progress(self, title: str, total: int, initial: int = 0) -> tqdm:
        return tqdm(
            desc=title, total=total, initial=initial, unit="batch",
            disable=not self.fabric.is_global_zero,
        )  # fmt: skip


def batch_seed(seed: int, number: int, rank: int) -> int:
    """What torch's generator starts from in a batch of a run, by its number, on one device."""
    words = np.random.SeedSequence([seed, number, rank]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


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
    chosen: Any = devices if resolved.index is None else [resolved.index]
    return Fabric(accelerator=resolved.type, devices=chosen, precision=PRECISIONS[precision])  # type: ignore[arg-type]


def _stream(run: Run, scenes: Sequence[TrainingScene], workers: int) -> Iterator[Batch]:
    """The batches that are left, read ahead."""
    conf = run.settings
    order = batches(
        scenes,
        conf["data"]["train_scene_limit"],
        conf["schedule"]["batch_size"],
        run.seed,
        start=run.done,
        rank=run.fabric.global_rank,
        world_size=run.fabric.world_size,
    )
    left = run.end(conf["schedule"]["n_epochs"] - 1) - run.done
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
