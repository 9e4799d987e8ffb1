"""Measure the peak memory of extraction and matching, compared with kornia and hloc's matching.

    python benchmarks/memory.py [--photo FILE] [--json OUT]

Each task runs in its own process. Its memory is the peak resident memory of the process, minus the
resident memory after loading models and inputs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import kornia.feature
import numpy as np
import report
import torch

from disk_hloc.io.images import list_images, read_image
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.weights import load_disk

KEYPOINTS = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, default=None)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    photo = args.photo or report.PHOTOS / list_images(report.PHOTOS)[0]
    figures = {}
    for who in ("ours, float32", "ours, bfloat16", "kornia"):
        figures[f"1600x1200, {who}: MB"], _ = run_in_new_process(extraction, who, photo, 1600, 1200)
    for precision in ("float32", "bfloat16"):
        share = figures[f"1600x1200, ours, {precision}: MB"] / figures["1600x1200, kornia: MB"]
        figures[f"1600x1200, {precision}: share of kornia's"] = share
    for who in ("ours", "all at once"):
        figures[f"30,000 x 30,000, {who}: MB"], _ = run_in_new_process(matching, who, 30_000)
    report.write(args.json, figures)


def extraction(who: str, photo: Path, width: int, height: int) -> Callable[[], object]:
    """Return a task that extracts 2,048 keypoints from a photo resized to a size in pixels."""
    resized = cv2.resize(read_image(photo), (width, height), interpolation=cv2.INTER_CUBIC)
    image = torch.from_numpy(resized.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    if who == "kornia":
        reference = kornia.feature.DISK().eval()
        reference.load_state_dict(load_disk("depth"))
        return lambda: reference(image, n=KEYPOINTS, pad_if_not_divisible=True)
    ours = DISK({"max_keypoints": KEYPOINTS, "precision": who.removeprefix("ours, ")})
    return lambda: ours({"image": image})


def matching(who: str, count: int) -> Callable[[], object]:
    """Return a task that matches mutual nearest neighbours of two images."""
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.nn.functional.normalize(torch.randn(1, 128, count, generator=generator), dim=1)
        for _ in range(2)
    )
    if who == "ours":
        matcher = NearestNeighbors({})
        return lambda: matcher({"descriptors0": a, "descriptors1": b})

    def at_once() -> object:
        # What hloc's nearest_neighbor does.
        similarity = torch.einsum("bdn,bdm->bnm", a, b)
        return similarity.topk(1, dim=-1), similarity.transpose(1, 2).topk(1, dim=-1)

    return at_once


def run_in_new_process(
    prepare: Callable[..., Callable[[], object]], *arguments: object
) -> tuple[float, float]:
    """Run a task in a new process; return the peak MB that it adds, and its time in seconds."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, prepare, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise SystemExit(f"{prepare.__name__}{arguments} was killed: out of memory?") from error
    finally:
        process.join()


def _measure(sender, prepare: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    with torch.inference_mode():
        task = prepare(*arguments)
        before, start = _memory("VmRSS"), time.perf_counter()
        task()
        seconds = time.perf_counter() - start
    sender.send((_memory("VmHWM") - before, seconds))


def _memory(field: str) -> float:
    """Return the current (VmRSS) or peak (VmHWM) memory in MB; without /proc, always the peak.

    On Linux, the ``ru_maxrss`` of a new process includes the memory of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2


if __name__ == "__main__":
    main()
