"""Validate the network after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric

from disk_hloc.eval.accuracy import mean_accuracy
from disk_hloc.log import logger

from . import pictures
from .auc import AUC_LIMIT, CORNERS, PAIRS, PRECISION, ROTATION, TRANSLATION
from .data import Batch, read_ahead
from .features import Features, split
from .figures import AnyFigures
from .session import Session
from .sources import Validation
from .validation import Match, detector, validate

# The tags of the figures in TensorBoard. Those of poses are those of the release.
TAGS = {
    "n_kps": "test/discrete/n_kps",
    "n_pairs": "test/discrete/n_pairs",
    "tp": "test/discrete/tp",
    "fp": "test/discrete/fp",
    "reward": "test/discrete/reward",
    "precision": PRECISION,
    "rotation_error": ROTATION,
    "translation_error": TRANSLATION,
    "n_inliers": "test/pose/n_inliers",
    "success": "test/pose/success",
}
HOMOGRAPHY_TAGS = TAGS | {
    "corner_error": CORNERS,
    "n_inliers": "test/homography/n_inliers",
    "success": "test/homography/success",
}
_LOGGED_EVERY_PAIR = ("rotation_error", "translation_error", "corner_error")


@torch.no_grad()
def validate_epoch(
    session: Session,
    number: int,
    test: Validation,
    workers: int,
    interrupted: Callable[[], bool],
) -> None:
    """Validate the network on a fixed random subset of the tuples.

    Raises:
        KeyboardInterrupt: the run should stop; the next run validates the epoch again.
    """
    conf, fabric = session.settings, session.fabric
    mine = test.items[fabric.global_rank :: fabric.world_size]
    detect = detector(conf["validation"])
    session.wrapped_network.eval()
    figures, drawn = [], 0
    with session.progress(f"Validation {session.epoch(number)}", len(mine)) as progress:
        for batch in read_ahead(mine, test.read, workers):
            batch = batch.to(fabric.device)
            features = session.wrapped_network(batch.images, detect)
            of_pairs, matches = validate(features, batch, conf)
            figures += of_pairs
            for i, of_tuple in enumerate(split(features, len(batch.views[0]))):
                if fabric.is_global_zero and drawn < conf["validation"]["pictures"]:
                    _draw(session, number, drawn, batch, i, of_tuple, matches[i])
                    drawn += 1
            progress.update()
            if interrupted():
                raise KeyboardInterrupt
    fields = test.figures._fields
    _log(session, number, fields, _gathered(session.fabric, fields, figures))


def _draw(
    session: Session,
    number: int,
    name: int,
    batch: Batch,
    index: int,
    features: Sequence[Features],
    matches: Sequence[Match],
) -> None:
    per_tuple = len(batch.views[0])
    images = batch.images[index * per_tuple :][:per_tuple]
    heatmaps = torch.cat([session.network.heatmaps(one[None]) for one in images])
    threshold = session.settings["reward"]["threshold"]
    picture = pictures.tuple_picture(batch, index, heatmaps, features, matches, threshold)
    epoch = session.epoch(number)
    folder = session.out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{epoch:03d}-{name}.jpg", quality=90)
    if session.writer is not None:
        values = np.asarray(picture)
        session.writer.add_image(f"test/tuple-{name}", values, epoch, dataformats="HWC")


def _gathered(fabric: Fabric, fields: Sequence[str], figures: Sequence[AnyFigures]) -> np.ndarray:
    """Gather the (P, F) figures of the pairs of all devices."""
    own = torch.tensor(figures, dtype=torch.float64).reshape(-1, len(fields))
    if fabric.world_size == 1:
        return own.numpy()
    # Devices may have different numbers of pairs, but can only gather arrays of the same shape.
    count = torch.tensor(len(own), device=fabric.device)
    most = int(torch.as_tensor(fabric.all_gather(count)).max())
    padded = torch.full((most, own.shape[1]), torch.nan, dtype=torch.float64)
    padded[: len(own)] = own
    gathered = torch.as_tensor(fabric.all_gather(padded.to(fabric.device)))
    flat = gathered.flatten(0, 1).cpu()
    return flat[flat.isfinite().all(dim=1)].numpy()


def _log(session: Session, number: int, fields: Sequence[str], figures: np.ndarray) -> None:
    if session.writer is None:
        return
    epoch, columns = session.epoch(number), dict(zip(fields, figures.T, strict=True))
    tags = HOMOGRAPHY_TAGS if "corner_error" in columns else TAGS
    # As in the release, these are logged for each pair, epoch after epoch.
    for name in _LOGGED_EVERY_PAIR:
        for i, value in enumerate(columns.get(name, ())):
            session.writer.add_scalar(tags[name], value, epoch * len(figures) + i)
    session.writer.add_scalar(PAIRS, len(figures), epoch)
    for name, values in columns.items():
        if name not in _LOGGED_EVERY_PAIR:
            session.writer.add_scalar(tags[name], values.mean(), epoch)
    if "corner_error" in columns:
        errors, unit = columns["corner_error"], "px"
    else:
        errors, unit = (
            np.maximum(columns["rotation_error"], columns["translation_error"]),
            "degrees",
        )
    auc = mean_accuracy(errors, AUC_LIMIT)
    session.writer.add_scalar(f"test/auc{AUC_LIMIT}", auc, epoch)
    logger.info(
        "Epoch %d: validation precision %.3f, reward %.2f, %.0f keypoints and %.0f matches per "
        "pair, AUC at %d %s %.3f",
        epoch, columns["precision"].mean(), columns["reward"].mean(), columns["n_kps"].mean(),
        columns["n_pairs"].mean(), AUC_LIMIT, unit, auc,
    )  # fmt: skip
