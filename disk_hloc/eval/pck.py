"""The share of correct keypoints (PCK) of descriptors at corners, as MSNet's code measures it.

MSNet's code (github.com/lin-zju/my-descriptor-space) takes up to 1,000 pixels of each pair's first
photo, at random among the tenth of its pixels with the greatest Harris response that the second
photo sees. A pixel is correct if, of all true correspondences, the one with the nearest descriptor
is close to its own. Its README says within 5 px; the code compares with 3 px, and both are given
here.

As there: photos have a longer side of 640 px (smaller ones are enlarged), correspondences are cut
to whole pixels, and all of HPatches' scenes count. Other than there: the nearest descriptor is
exact, not FLANN's, which gives lower figures; a network's descriptors are those it gives for a
pixel; the choice of pixels is repeatable; and a pixel beyond the horizon of a homography is not
seen.

:mod:`disk_hloc.eval.descriptors` measures the same with CAPS' positions, which are anywhere in the
photo: most of these have little texture, and figures are lower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.hpatches import KINDS, kind_of, read_scenes
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.images import ImageReadError, read_image
from disk_hloc.plugin import find_conf
from disk_hloc.report import tables

from .descriptors import applies_to, share_correct
from .given_positions import BASELINES, Describe
from .hpatches import by_kind, mean_of_known

LONGER_SIDE_PX = 640
NUM_POSITIONS = 1000
THRESHOLDS_PX = (3, 5)
_HARRIS_PERCENTILE = 90

NOTE = (
    "PCK: share of up to 1,000 corners of a pair's first photo whose nearest descriptor among "
    "their correspondences is within 3 and 5 px of the right one; mean of all pairs, of those with "
    "changing light and of those with changing viewpoint. Photos have a longer side of 640 px. "
    'What MSNet\'s README calls "PCK@5" is computed by its code within 3 px. skimage-daisy is '
    "scikit-image's DAISY, not OpenCV's."
)


def main(
    folder: Path, output: Path, rows: Sequence[str], *, seed: int = 0, device: str = "auto"
) -> dict[str, Any]:
    """Compare descriptors on photos with known homographies.

    Args:
        folder: of HPatches' sequences, all of which are taken, or of
            :func:`disk_hloc.eval.homographies.main`.
        output: gets ``results.json`` and ``results.md``.
        rows: names in :data:`disk_hloc.eval.given_positions.BASELINES`, or confs of extractors
            that describe any pixel.
        seed: of the positions, which are the same for all rows.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        What ``results.json`` holds: ``positions``, the mean number of a pair; ``pck``: row -> ``3``
        and ``5`` -> kind of scene -> 0 to 1.

    Raises:
        DiskHlocError: a row is unknown or describes only what it detects, a photo cannot be read,
            or as :func:`disk_hloc.io.benchmarks.hpatches.read_scenes`.
    """
    if not rows:
        raise DiskHlocError("there is nothing to compare: name a descriptor")
    homographies = read_scenes(folder, without=())
    results: dict[str, Any] = {"positions": 0.0, "pck": {}}
    for row in dict.fromkeys(rows):
        figures, results["positions"] = evaluate(
            _describer(row, device), folder, homographies, seed=seed, description=row
        )
        results["pck"][row] = figures
    tables.write(output, "Descriptors at given positions", results, table(results), NOTE)
    return results


def table(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table, a heading first."""
    heading = ["descriptor"]
    for threshold in THRESHOLDS_PX:
        heading += [f"PCK@{threshold}", "light", "viewpoint"]
    lines = [heading]
    for row, figures in results["pck"].items():
        values = [figures[str(t)].get(kind) for t in THRESHOLDS_PX for kind in ("all", *KINDS)]
        lines.append([row, *("" if value is None else f"{value:.3f}" for value in values)])
    return lines


def evaluate(
    describe: Describe,
    folder: Path,
    homographies: Mapping[Pair, np.ndarray],
    *,
    seed: int = 0,
    description: str = "Describe",
) -> tuple[dict[str, dict[str, float | None]], float]:
    """Return the PCK of a descriptor by threshold and kind, and the mean number of positions.

    Args:
        describe: as the functions of :mod:`disk_hloc.eval.given_positions`.
        folder: of the photos.
        homographies: of the pairs; a first photo is the first in all its pairs.
        seed: of the positions.
        description: of the progress bar.

    Returns:
        ``3`` and ``5`` (pixels) -> ``illumination``, ``viewpoint``, ``all`` -> 0 to 1.

    Raises:
        DiskHlocError: a photo cannot be read.
    """
    of_first: dict[str, list[Pair]] = {}
    for pair in homographies:
        of_first.setdefault(pair[0], []).append(pair)
    shares: dict[Pair, list[float]] = {}
    counts = []
    for first, pairs in tqdm(of_first.items(), description, unit="scene"):
        image0, scale0 = _read(folder, first)
        seconds = [_read(folder, pair[1]) for pair in pairs]
        found = []
        for pair, (image1, scale1) in zip(pairs, seconds, strict=True):
            matrix = scale1 @ homographies[pair] @ np.linalg.inv(scale0)
            rng = np.random.default_rng([seed, *pair[1].encode()])
            found.append(corner_correspondences(image0, image1.shape, matrix, rng))
        # The first photo is described once for all its pairs.
        joined = describe(image0, np.concatenate([xy0 for xy0, _ in found]))
        ends = np.cumsum([len(xy0) for xy0, _ in found])
        described0 = np.split(joined, ends[:-1], axis=1)
        for pair, (image1, _), (_, xy1), ours in zip(
            pairs, seconds, found, described0, strict=True
        ):
            theirs = describe(image1, xy1)
            shares[pair] = [share_correct(ours, theirs, xy1, within) for within in THRESHOLDS_PX]
            counts.append(len(xy1))
    values = np.array([shares[pair] for pair in homographies])
    kinds = by_kind([kind_of(pair) for pair in homographies])
    figures = {
        str(threshold): {kind: mean_of_known(values[which, i]) for kind, which in kinds.items()}
        for i, threshold in enumerate(THRESHOLDS_PX)
    }
    return figures, round(float(np.mean(counts)), 1)


def corner_correspondences(
    image0: np.ndarray,
    shape1: Sequence[int],
    homography: np.ndarray,
    rng: np.random.Generator,
    num_positions: int = NUM_POSITIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose pixels of the first photo with a great Harris response that the second photo sees.

    Args:
        image0: (H, W, 3) uint8 RGB.
        shape1: of the second photo, height and width first.
        homography: (3, 3), ``1_from_0``.
        rng: of the choice.
        num_positions: the greatest number of pixels.

    Returns:
        (N, 2) int64 x and y in the first photo, and those in the second, cut to whole pixels.
    """
    gray = cv2.cvtColor(image0, cv2.COLOR_RGB2GRAY).astype(np.float32)
    response = cv2.cornerHarris(gray, blockSize=2, ksize=3, k=0.04)
    rows, columns = np.nonzero(response > np.percentile(response, _HARRIS_PERCENTILE))
    xy0 = np.column_stack([columns, rows])
    x, y, w = homography @ np.column_stack([xy0, np.ones(len(xy0))]).T
    ahead = w / homography[2, 2] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.column_stack([x / w, y / w])
    height, width = shape1[:2]
    # A coordinate between -1 and 0 is cut to 0, and counts as seen.
    seen = ahead & np.all((moved > -1) & (moved < (width, height)), axis=1)
    chosen = np.flatnonzero(seen)
    if len(chosen) > num_positions:
        chosen = rng.choice(chosen, num_positions, replace=False)
    return xy0[chosen], moved[chosen].astype(np.int64)


def _describer(row: str, device: str) -> Describe:
    if row in BASELINES:
        return BASELINES[row]
    conf = find_conf("extractors", row)
    if not applies_to(conf):
        raise DiskHlocError(
            f"{row} describes only the keypoints that it detects: name an extractor that describes "
            f"any pixel, such as disk, or one of {', '.join(BASELINES)}"
        )
    model = models.load("extractors", conf["model"]["name"])(conf["model"])
    model = model.to(devices.resolve(device))
    grayscale = conf["preprocessing"]["grayscale"]

    @torch.inference_mode()
    def describe(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
        if grayscale:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
        tensor = torch.from_numpy(image.transpose(2, 0, 1)).float()[None] / 255
        xy_tensor = torch.from_numpy(xy).to(model.device)
        return model.describe(tensor.to(model.device), xy_tensor).cpu().numpy()

    return describe


def _read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read and resize a photo; return it and the (3, 3) matrix that scales its coordinates."""
    try:
        image = read_image(folder / name)
    except ImageReadError as error:
        raise DiskHlocError(f"{folder / name}: {error}; unpack the data set again") from error
    height, width = image.shape[:2]
    ratio = LONGER_SIDE_PX / max(height, width)
    size = round(width * ratio), round(height * ratio)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return resized, np.diag([size[0] / width, size[1] / height, 1.0])
