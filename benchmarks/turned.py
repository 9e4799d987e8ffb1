"""Measure what turned photos cost: DISK's matches by angle, models of turned photos, the votes.

    python benchmarks/turned.py [--data DIR] [--only angles votes folders cost models] [--json OUT]

Of each pair of neighbours in Fountain-P11 one photo is turned in memory, by any angle, and the
matches that agree with a fundamental matrix are counted. The votes are those of photos of six
folders, turned at random, each with each; then folder by folder, as `--turn auto` finds them: which
way up all of a folder are does not count. The cost of the votes is in CPU seconds of one thread,
like that of the extraction beside it. Models are made of photos that are stored turned.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import poselib
import report
import torch
from PIL import ExifTags, Image

from disk_hloc import models
from disk_hloc.eval.model import pose_errors, summarize
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.images import list_images, read_image
from disk_hloc.io.loader import Photo, load_photo
from disk_hloc.models import turn_votes
from disk_hloc.models.nearest import match
from disk_hloc.pipelines import matching
from disk_hloc.plugin import find_conf
from disk_hloc.stages import reconstruct, turn
from disk_hloc.stages.extract import extract_photos

ANGLES = (0, 15, 22.5, 30, 45, 60, 75, 90)
INLIER_PX = 1.5
# Of unrelated photos some 20 matches agree by chance.
OVERLAP = 50
FOLDERS = (
    "fountain_p11/images", "sacre_coeur/images", "reichstag/images", "folders/lund/images",
    "folders/brighton/images", "folders/berlin/images",
)  # fmt: skip
# Quarters by which photos are stored turned, and their orientation in EXIF.
FOUNTAIN = {"0001.jpg": 1, "0004.jpg": 2, "0006.jpg": 3, "0009.jpg": 1}
SACRE_COEUR = {1: 1, 4: 2, 7: 3}
ORIENTATION = {1: 6, 2: 3, 3: 8}


def main() -> None:
    sections = {
        "angles": angles, "votes": votes, "folders": turned_folders, "cost": cost,
        "models": turned_models,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=report.PHOTOS.parent.parent)
    parser.add_argument("--only", nargs="*", choices=sections, default=list(sections))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in args.only:
        sections[name](args.data, figures)
    report.write(args.json, figures)


def angles(data: Path, figures: dict[str, Any]) -> None:
    """Count DISK's verified matches by the angle between two photos."""
    folder = data / "fountain_p11" / "images"
    conf = find_conf("extractors", "disk-2k")
    model = models.load("extractors", "disk")(conf["model"])
    names = list_images(folder)
    photos = [load_photo(folder, name, conf["preprocessing"]) for name in names]
    upright = [extract_photos(model, [photo])[0][0] for photo in photos]
    for angle in ANGLES:
        found = []
        for (one, _), (_, photo) in pairwise(zip(upright, photos, strict=True)):
            other = extract_photos(model, [rolled(photo, angle)])[0][0]
            found.append(verified(one, other))
        figures[f"{angle:g} degrees: verified matches, median"] = float(np.median(found))
        figures[f"{angle:g} degrees: pairs with {OVERLAP} or more"] = sum(
            n >= OVERLAP for n in found
        )


def rolled(photo: Photo, degrees: float) -> Photo:
    """Turn a photo by any angle, on a canvas that holds all of it."""
    image = photo.image.transpose(1, 2, 0)
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    cosine, sine = np.abs(matrix[0, :2])
    size = round(height * sine + width * cosine), round(height * cosine + width * sine)
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    turned = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC)
    values = np.ascontiguousarray(turned.clip(0, 1).transpose(2, 0, 1))
    return Photo(photo.name, values, size)


def verified(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> int:
    """Count the mutual nearest neighbours that agree with a fundamental matrix."""
    descriptors = [torch.from_numpy(f["descriptors"]).float() for f in (one, other)]
    found = match(*descriptors)[0].numpy()
    matched = np.flatnonzero(found >= 0)
    points = one["keypoints"][matched], other["keypoints"][found[matched]]
    points = [values.astype(np.float64) for values in points]
    _, info = poselib.estimate_fundamental(*points, {"max_epipolar_error": INLIER_PX}, {})
    return int(info["num_inliers"])


def votes(data: Path, figures: dict[str, Any]) -> None:
    """Compare every photo of all folders with every other, turned at random."""
    rng = np.random.default_rng(0)
    seen, folders, turned = [], [], []
    for folder in FOLDERS:
        for name in list_images(data / folder):
            turned.append(int(rng.integers(4)))
            image = read_image(data / folder / name, grayscale=True)
            seen.append(turn_votes.describe(np.ascontiguousarray(np.rot90(image, turned[-1]))))
            folders.append(folder)
    right = wrong = apart = chance = 0
    for i, j in combinations(range(len(seen)), 2):
        counted = turn_votes.votes(seen[i], seen[j])
        quarters = turn_votes.clear_turn(counted)
        correct = quarters == (turned[i] - turned[j]) % 4
        right += correct and folders[i] == folders[j]
        wrong += quarters is not None and not correct
        apart += folders[i] != folders[j] and quarters is not None
        counted[(turned[i] - turned[j]) % 4] *= folders[i] != folders[j]
        chance = max(chance, int(counted.max()))
    figures["pairs that agree on the right turn"] = right
    figures["pairs that agree on a wrong turn"] = wrong
    figures["pairs of different folders that agree"] = apart
    figures["most votes for a wrong turn, or between folders"] = chance


def turned_folders(data: Path, figures: dict[str, Any]) -> None:
    """Turn a part of the photos of each folder at random, and count those that are found."""
    rng = np.random.default_rng(0)
    for folder in FOLDERS:
        with tempfile.TemporaryDirectory() as name:
            photos, stored = Path(name) / "photos", {}
            photos.mkdir()
            for path in sorted((data / folder).iterdir()):
                if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                    stored[path.name] = int(rng.choice(4, p=(0.55, 0.15, 0.15, 0.15)))
                    store(path, photos / path.name, stored[path.name], exif=False)
            found = turn.main("auto", photos, sorted(stored), Path(name) / "features.h5")
        upright = [(found.get(name, 0) + quarters) % 4 for name, quarters in stored.items()]
        right = max(map(upright.count, range(4)))
        figures[f"{folder}: turned at random"] = sum(map(bool, stored.values()))
        figures[f"{folder}: then the same way up, of {len(stored)}"] = right


def cost(data: Path, figures: dict[str, Any]) -> None:
    """Compare the votes of folders whose photos are not turned with their extraction."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for folder in FOLDERS:
        names = list_images(data / folder)
        with tempfile.TemporaryDirectory() as output:
            start = time.process_time()
            turns = turn.main("auto", data / folder, names, Path(output) / "features.h5")
            voting = (time.process_time() - start) / len(names)
        figures[f"{folder}: photos turned"] = len(turns)
        figures[f"{folder}: votes, CPU s a photo"] = voting
        for conf_name in ("disk", "disk-2k"):
            conf = find_conf("extractors", conf_name)
            model = models.load("extractors", "disk")(conf["model"])
            some = names[:: max(1, len(names) // 3)][:3]
            extract_photos(model, [load_photo(data / folder, some[0], conf["preprocessing"])])
            start = time.process_time()
            for name in some:
                extract_photos(model, [load_photo(data / folder, name, conf["preprocessing"])])
            extraction = (time.process_time() - start) / len(some)
            figures[f"{folder}: {conf_name}, CPU s a photo"] = extraction
            figures[f"{folder}: votes, part of {conf_name}"] = voting / extraction


def turned_models(data: Path, figures: dict[str, Any]) -> None:
    """Build models of photos that are stored turned, and of those that are not."""
    fountain = data / "fountain_p11"
    _, width, height, parameters = (fountain / "camera.txt").read_text().split(maxsplit=3)
    intrinsics = [float(value) for value in parameters.split()]
    truth = read_poses(fountain / "poses.txt")
    sacre = list_images(data / "sacre_coeur" / "images")
    runs: list[tuple[str, Path, dict[str, int], bool, str]] = [
        ("Fountain-P11 as it is", fountain / "images", {}, False, "none"),
        ("4 of 11 turned, none", fountain / "images", FOUNTAIN, False, "none"),
        ("4 of 11 turned, EXIF", fountain / "images", FOUNTAIN, True, "exif"),
        ("4 of 11 turned, auto", fountain / "images", FOUNTAIN, False, "auto"),
    ]
    turned = {sacre[i]: quarters for i, quarters in SACRE_COEUR.items()}
    for title, quarters, choice in (
        ("Sacre Coeur as it is", {}, "none"),
        ("3 of 10 turned, none", turned, "none"),
        ("3 of 10 turned, auto", turned, "auto"),
    ):
        runs.append((title, data / "sacre_coeur" / "images", quarters, False, choice))
    for title, source, quarters, exif, choice in runs:
        with tempfile.TemporaryDirectory() as name:
            folder, output = Path(name) / "photos", Path(name) / "out"
            folder.mkdir()
            cameras = {}
            for path in sorted(source.iterdir()):
                store(path, folder / path.name, quarters.get(path.name, 0), exif)
                size = (int(width), int(height))
                cameras[path.name] = turned_camera(intrinsics, size, quarters.get(path.name, 0))
            matched = matching.main(folder, output, turn=choice)
            known = source == fountain / "images"
            model = reconstruct.main(
                output / "sfm", folder, matched.pairs, matched.features, matched.matches,
                engine="native", cameras=cameras if known else None, fix_intrinsics=known,
            )  # fmt: skip
            found = summarize(model, len(cameras))
            figures[f"{title}: registered"] = found["registered"]
            figures[f"{title}: points"] = found["points3D"]
            if known:
                errors = pose_errors(model, truth)
                figures[f"{title}: position error, mm"] = float(errors.position.mean() * 1000)


def store(source: Path, target: Path, quarters: int, exif: bool) -> None:
    """Write a photo turned, without loss beyond JPEG's at quality 98, or as it is."""
    if not quarters:
        target.write_bytes(source.read_bytes())
        return
    tags = Image.Exif()
    if exif:
        tags[ExifTags.Base.Orientation] = ORIENTATION[quarters]
    with Image.open(source) as image:
        turned = Image.fromarray(np.rot90(np.asarray(image.convert("RGB")), quarters))
        turned.save(target, quality=98, subsampling=0, exif=tags)


def turned_camera(parameters: list[float], size: tuple[int, int], quarters: int) -> str:
    """Return the pinhole camera of a photo that is stored turned, as COLMAP's text."""
    fx, fy, cx, cy = parameters
    width, height = size
    turned = (
        (fx, fy, cx, cy),
        (fy, fx, cy, width - cx),
        (fx, fy, width - cx, height - cy),
        (fy, fx, height - cy, cx),
    )[quarters]
    return "PINHOLE " + ",".join(map(str, turned))


if __name__ == "__main__":
    main()
