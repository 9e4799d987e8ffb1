"""Prove and measure everything that runs on a GPU: one command, at most eight minutes.

    python benchmarks/gpu.py [--photos DIR] [--only SECTION ...] [--json OUT] [--profile DIR]

The sections: ``machine``, the rates of the card; ``tests``, those of tests/ that need CUDA;
``extraction``, images a second against kornia's DISK; ``files``, from photos to a features file;
``matching``, pairs a second against hloc's nearest neighbours, with and without files;
``lightglue``; ``memory``, batches that do not fit; ``training``, steps a second and memory. A
section that fails does not stop the others; the exit status is 1 then. Without a GPU the same runs
on the CPU in small sizes, which shows only that the code is sound.

hloc and kornia are measured where they are installed. Weights are found as by disk-hloc.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import h5py
import numpy as np
import report
import torch
from extract import compare, flop_of, kornia_disk, load
from lightglue import measure as measure_lightglue
from lightglue import pairs_of as lightglue_pairs
from train_memory import TrainingStep

from disk_hloc import plugin
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.images import list_images, read_image
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SIZES = ((1024, 768), (1600, 1200)) if CUDA else ((256, 192),)
BATCHES = (1, 8) if CUDA else (1, 2)
KEYPOINTS = 2048
COUNTS = (2048, 5000, 8192) if CUDA else (512,)
ROUNDS = 10 if CUDA else 1
# How many times each photo is in the sections that read and write files.
COPIES = 8 if CUDA else 1
MANY_COPIES = 40 if CUDA else 2
TRAINING_SIZE = 768 if CUDA else 96
Figures = dict[str, Any]


def machine(_: Path) -> Figures:
    """Measure the rates that bound everything else: matrix products, and copies of memory."""
    size = 8192 if CUDA else 512
    figures: Figures = {}
    for dtype in (torch.float32, torch.float16):
        figures[f"{dtype}: TFLOP/s"] = report.gflops(size, dtype, DEVICE) / 1e3
    block = torch.empty(1 << (32 if CUDA else 24), dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(block)
    seconds = report.medians(report.alternate({"copy": lambda: other.copy_(block)}, 9))["copy"]
    figures["copy: TB/s read and written"] = 2 * block.numel() / seconds / 1e12
    return figures


def tests(_: Path) -> Figures:
    """Run the tests that need CUDA."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests/test_cuda.py"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    print(done.stdout[-6000:], done.stderr[-2000:])
    # 5: pytest found no tests, which are skipped without CUDA.
    if done.returncode:
        raise RuntimeError(f"tests/test_cuda.py: exit status {done.returncode}")
    return {"tests": done.stdout.strip().splitlines()[-1]}


def extraction(photos: Path) -> Figures:
    """Measure images a second of tensors that lie on the device."""
    figures: Figures = {}
    reference = kornia_disk(DEVICE)
    conf = {"max_keypoints": KEYPOINTS, "subpixel": False}
    ours = {
        name: DISK({**conf, "precision": name}).to(DEVICE)
        for name in (("float32", "float16") if CUDA else ("float32",))
    }
    on_cpu = DISK({**conf, "precision": "float32"})
    for width, height in SIZES:
        images = [load(photos / name, (width, height)) for name in list_images(photos)]
        title = f"{width}x{height}"
        if (width, height) == SIZES[0]:
            for name, model in ours.items():
                pairs = [compare(model, on_cpu_as(on_cpu), image) for image in images]
                shared, cosines = zip(*pairs, strict=True)
                figures[f"{title}, {name}: keypoints as the CPU's, worst photo"] = min(shared)
                figures[f"{title}, {name}: descriptors' cosine, worst"] = min(cosines)
        for count in BATCHES:
            batch = torch.cat([images[i % len(images)] for i in range(count)]).to(DEVICE)
            runs: dict[str, Callable[[], Any]] = {
                "kornia": lambda batch=batch: reference(
                    batch, n=KEYPOINTS, pad_if_not_divisible=True
                )
            }
            if CUDA:
                runs["kornia, autocast"] = lambda batch=batch: in_half(reference, batch)
            for name, model in ours.items():
                runs[name] = lambda model=model, batch=batch: model({"image": batch})
            seconds = report.medians(report.alternate(runs, ROUNDS))
            for name, value in seconds.items():
                place = f"{title}, batch {count}, {name}"
                figures[f"{place}: images a second"] = count / value
                if not name.startswith("kornia"):
                    figures[f"{place}: times as fast as kornia"] = seconds["kornia"] / value
            if CUDA:
                flop = flop_of(width, height, KEYPOINTS) * count
                floor = flop / 1e9 / report.gflops(8192, torch.float16, DEVICE)
                figures[f"{title}, batch {count}: arithmetic's floor, ms"] = floor * 1e3
                figures[f"{title}, batch {count}: time over it"] = seconds["float16"] / floor
    return figures


def on_cpu_as(model: DISK) -> Callable[..., Any]:
    """Return our model on the CPU in the form of kornia's, for :func:`extract.compare`."""

    def run(image: torch.Tensor, **_: Any) -> list[Any]:
        found = model({"image": image.cpu()})
        descriptors = found["descriptors"][0].T
        return [SimpleNamespace(keypoints=found["keypoints"][0], descriptors=descriptors)]

    return run


def in_half(reference: Any, batch: torch.Tensor) -> Any:
    """Run kornia's network as torch itself would in half precision."""
    with torch.autocast("cuda", torch.float16):
        return reference(batch, n=KEYPOINTS, pad_if_not_divisible=True)


def files(photos: Path) -> Figures:
    """Measure images a second from photos to a features file."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = copies(photos, folder / "photos", MANY_COPIES)
        conf = find_conf("extractors", "disk")
        runs = {"ours": lambda: extract.main(conf, many, folder / "ours.h5", overwrite=True)}
        if provider := plugin.find_provider():
            # Not through the plug-in, which would have hloc run ours.
            hloc = importlib.import_module(f"{provider}.extract_features")
            runs["hloc"] = lambda: hloc.main(
                hloc.confs["disk"], many, feature_path=folder / "hloc.h5", overwrite=True
            )
        seconds = report.medians(report.alternate(runs, 1))
        for who, value in seconds.items():
            figures[f"{who}: images a second"] = len(list_images(many)) / value
        if "hloc" in seconds:
            figures["times as fast as hloc"] = seconds["hloc"] / seconds["ours"]
    return figures


def copies(photos: Path, folder: Path, count: int, size: tuple[int, int] = SIZES[0]) -> Path:
    """Write each photo several times, resized to a width and height."""
    folder.mkdir()
    for name in list_images(photos):
        resized = cv2.resize(read_image(photos / name), size, interpolation=cv2.INTER_AREA)
        for i in range(count):
            path = folder / f"{Path(name).stem}_{i}.jpg"
            cv2.imwrite(str(path), resized[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


def matching(photos: Path) -> Figures:
    """Measure pairs a second, of descriptors on the device and from file to file."""
    figures: Figures = {}
    matcher = NearestNeighbors({})
    for count in COUNTS:
        two = [described(photos, count, i) for i in range(2)]
        found = min(one.shape[2] for one in two)
        descriptors = torch.cat([one[..., :found] for one in two])
        for pairs in (1, 16) if CUDA else (1,):
            data = {f"descriptors{i}": descriptors[i].repeat(pairs, 1, 1) for i in (0, 1)}
            runs: dict[str, Callable[[], Any]] = {"ours": partial(matcher, data)}
            if plugin.find_provider():
                runs["hloc"] = partial(nearest_of_hloc(), data)
            seconds = report.medians(report.alternate(runs, ROUNDS))
            place = f"{count}, {pairs} at once"
            for who, value in seconds.items():
                figures[f"{place}, {who}: pairs a second"] = pairs / value
            if CUDA:
                floor = pairs * 2 * 128 * count**2 / 1e9
                floor /= report.gflops(8192, torch.float32, DEVICE)
                figures[f"{place}: time over arithmetic's floor"] = seconds["ours"] / floor
            if "hloc" in seconds:
                figures[f"{place}: times as fast as hloc"] = seconds["hloc"] / seconds["ours"]
        figures |= matching_files(photos, count, "disk", "NN-mutual")
    return figures


def matching_files(
    photos: Path, count: int, matcher: str, of_hloc: str, fewest: float = 1.0
) -> Figures:
    """Measure pairs a second from file to file; each photo is there several times.

    Args:
        photos: folder.
        count: of keypoints.
        matcher: the name of a conf of ours.
        of_hloc: of a conf of hloc; empty for none.
        fewest: images have from this part of the keypoints to all of them.
    """
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features, pairs = folder / "features.h5", folder / "pairs.txt"
        many = copies(photos, folder / "photos", COPIES, SIZES[-1])
        conf = find_conf("extractors", "disk")
        model = {**conf["model"], "max_keypoints": count}
        extract.main({**conf, "model": model}, many, features)
        names = list_images(many)
        keep_some(features, fewest)
        title = f"{count}, files" if fewest == 1 else f"{fewest * count:.0f} to {count}, files"
        listed = list(combinations(names, 2))
        conf = find_conf("matchers", matcher)
        runs: dict[str, Callable[[], Any]] = {
            "ours": lambda: match.main(conf, pairs, features, folder / "o.h5", overwrite=True)
        }
        if of_hloc and plugin.find_provider():
            hloc = plugin.hloc_module("match_features")
            runs["hloc"] = lambda: hloc.main(
                hloc.confs[of_hloc], pairs, features, matches=folder / "h.h5", overwrite=True
            )
        seconds = {}
        for who, run in runs.items():
            write_pairs(pairs, listed[:20])
            run()
            write_pairs(pairs, listed)
            start = time.perf_counter()
            run()
            seconds[who] = time.perf_counter() - start
            figures[f"{title}, {who}: pairs a second"] = len(listed) / seconds[who]
        if "hloc" in seconds:
            figures[f"{title}: times as fast as hloc"] = seconds["hloc"] / seconds["ours"]
    return figures


def keep_some(features: Path, fewest: float) -> None:
    """Drop keypoints, so that images have different numbers of them."""
    with h5py.File(features, "a") as file:
        for name, kept in zip(file, np.linspace(1, fewest, len(file)), strict=True):
            count = int(kept * len(file[name]["keypoints"]))
            for key in ("keypoints", "keypoint_scores", "scores", "descriptors"):
                values = file[name][key][()]
                del file[name][key]
                file[name][key] = values[..., :count] if key == "descriptors" else values[:count]


def described(photos: Path, count: int, index: int) -> torch.Tensor:
    """Return (1, 128, N) descriptors of an enlarged photo."""
    conf = {"max_keypoints": count}
    name = list_images(photos)[index]
    image = load(photos / name, (1600, 1200) if CUDA else (256, 192)).to(DEVICE)
    found: torch.Tensor = DISK(conf).to(DEVICE)({"image": image})["descriptors"][0]
    # As a file has them.
    return found[None].half().float()


def nearest_of_hloc() -> Any:
    """Return hloc's matcher of mutual nearest neighbours."""
    module = plugin.hloc_module("matchers.nearest_neighbor")
    return module.NearestNeighbor({"do_mutual_check": True}).eval().to(DEVICE)


def lightglue(photos: Path) -> Figures:
    """Measure LightGlue's pairs a second."""
    size = SIZES[-1]
    figures: Figures = {}
    for count in COUNTS[:2]:
        figures |= measure_lightglue(photos, count, size, ROUNDS, DEVICE)
        for fewest in (1.0, 0.7):
            figures |= matching_files(photos, count, "disk+lightglue", "", fewest)
    return figures


def memory(photos: Path) -> Figures:
    """Extract and match with too little memory for a batch; the files must be the same."""
    if not CUDA:
        return {"skipped": "without CUDA"}
    figures: Figures = {}
    conf = find_conf("extractors", "disk-2k")
    conf = {**conf, "preprocessing": {**conf["preprocessing"], "resize_max": 1600}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = copies(photos, folder / "photos", COPIES)
        digests = []
        for limit_gb in (None, 1.0):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            total = torch.cuda.get_device_properties(0).total_memory
            share = 1.0 if limit_gb is None else limit_gb * 1e9 / total
            torch.cuda.set_per_process_memory_fraction(share)
            path = folder / f"features-{limit_gb}.h5"
            start = time.perf_counter()
            extract.main(conf, many, path)
            figures[f"limit {limit_gb} GB: seconds"] = time.perf_counter() - start
            peak = torch.cuda.max_memory_allocated() / 1e9
            figures[f"limit {limit_gb} GB: peak of extraction, GB"] = peak
            digests.append(path.read_bytes())
        torch.cuda.set_per_process_memory_fraction(1.0)
        figures["files are equal"] = digests[0] == digests[1]
    return figures


def training(_: Path) -> Figures:
    """Measure training steps of one tuple of three images, as the release trains."""
    figures: Figures = {}
    for recompute in (False, True):
        for precision in ("float32", "bfloat16"):
            name = f"{precision}{', recompute' if recompute else ''}"
            with torch.inference_mode(False):
                step = TrainingStep(TRAINING_SIZE, 3, recompute, DEVICE)
            if CUDA:
                torch.cuda.reset_peak_memory_stats()

            def run(step: TrainingStep = step, half: bool = precision != "float32") -> None:
                with torch.inference_mode(False):
                    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
                        features = step.forward()
                    step.backward(features)

            rounds = 3 if CUDA else 1
            seconds = report.medians(report.alternate({"step": run}, rounds))["step"]
            figures[f"{name}: steps a second"] = 1 / seconds
            if CUDA:
                peak = torch.cuda.max_memory_allocated() / 1e9
                figures[f"{name}: peak, GB (the release's: 11)"] = peak
            del step, run
    return figures


SECTIONS = {
    one.__name__: one
    for one in (machine, tests, extraction, files, matching, lightglue, memory, training)
}


def profiles(photos: Path, out: Path) -> None:
    """Write where the time of extraction and matching goes."""
    out.mkdir(parents=True, exist_ok=True)
    images = [load(photos / name, SIZES[0]) for name in list_images(photos)]
    batch = torch.cat([images[i % len(images)] for i in range(BATCHES[-1])]).to(DEVICE)
    model = DISK({"max_keypoints": KEYPOINTS}).to(DEVICE)
    descriptors = described(photos, COUNTS[-1], 0).repeat(4, 1, 1)
    matcher = NearestNeighbors({})
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if CUDA else []
    lightglue = DiskLightGlue().to(DEVICE)
    few = images[:5]
    pairs = lightglue_pairs([image.to(DEVICE) for image in few], KEYPOINTS)
    together = {key: torch.cat([data[key] for data in pairs]) for key in pairs[0]}
    for name, run in {
        "lightglue": lambda: lightglue(together),
        "extraction": lambda: model({"image": batch}),
        "matching": lambda: matcher({"descriptors0": descriptors, "descriptors1": descriptors}),
    }.items():
        run()
        with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
            for _ in range(3):
                run()
            if CUDA:
                torch.cuda.synchronize()
        orders = (
            ("self_cuda_time_total", "self_cpu_time_total") if CUDA else ("self_cpu_time_total",)
        )
        for order in orders:
            table = profile.key_averages().table(
                sort_by=order, row_limit=40, max_name_column_width=60
            )
            (out / f"{name}-{order.split('_')[1]}.txt").write_text(table)


def chosen(only: list[str] | None) -> Iterator[tuple[str, Callable[[Path], Figures]]]:
    """Yield the sections to run."""
    for name, section in SECTIONS.items():
        if not only or name in only:
            yield name, section


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument("--only", nargs="*", choices=[*SECTIONS], metavar="SECTION")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="write where the time goes to this folder")
    args = parser.parse_args()
    everything: Figures = {}
    failed = []
    for name, section in chosen(args.only):
        start = time.perf_counter()
        print(f"--- {name}", flush=True)
        try:
            figures = section(args.photos)
        except Exception:  # noqa: BLE001 - reported, and the next section runs
            traceback.print_exc()
            failed.append(name)
            continue
        figures["seconds of the section"] = time.perf_counter() - start
        everything |= {f"{name}: {key}": value for key, value in figures.items()}
        report.write(None, figures)
        sys.stdout.flush()
    if args.profile:
        profiles(args.photos, args.profile)
    if args.json:
        everything["failed"] = failed
        report.write(args.json, everything)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
