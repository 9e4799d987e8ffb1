"""Photos to a features file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models
from disk_hloc.errors import DiskHlocError, UnreadableImages, listing, require_on_error
from disk_hloc.io import not_photos
from disk_hloc.io.hloc.features import feature_entry
from disk_hloc.io.images import ImageReadError, list_images, read_image_list
from disk_hloc.io.inputs import Inputs, Seen
from disk_hloc.io.loader import (
    DEFAULT_PREPROCESSING,
    Photo,
    in_original,
    of_one_size,
    read_ahead,
)
from disk_hloc.io.masks import Masks, input_files, keep_keypoints, log_missing, mask_folder
from disk_hloc.io.outputs import require_output
from disk_hloc.io.store import FORMAT, FORMAT_KEY, Fingerprint, Plan, Store, plan
from disk_hloc.io.turns import Turns
from disk_hloc.models.base import Extractor

from . import through_hloc
from .work import HlocWork, Task, Work

# One worker extracts up to this many images at a time.
MAX_IMAGES_PER_SHARD = 64

# The arrays of an image, and its keypoints' uncertainty.
Features = tuple[dict[str, np.ndarray], float]


def main(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    turns: Turns | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
) -> Path:
    """Extract features of the images of a folder.

    Images that the file has already are skipped, so a run that was stopped resumes. A conf whose
    model is not ours runs through hloc's own ``extract_features.main``.

    Args:
        conf: ``{output, model, preprocessing}`` as hloc's; see configs/extractors.yaml.
        image_dir: the photos, at any depth.
        feature_path: the features file to make or to add to (:mod:`disk_hloc.io.hloc.features`).
        image_list: a file of image names; without it, all images of the folder.
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`). Our extractors
            detect nothing in masked pixels and spend ``max_keypoints`` on the others. hloc's know
            no masks: their features go to a file beside ``feature_path``
            (:func:`disk_hloc.stages.through_hloc.unmasked_path`), and the masked keypoints are
            then removed. This changes indices, so matches have to be computed again
            (:attr:`disk_hloc.stages.work.HlocWork.renumbers`).
        turns: the photos that are turned before keypoints are detected, of
            :func:`disk_hloc.stages.turn.main`; keypoints are in pixels of the stored photo all the
            same. Without them, photos are taken as they are stored. hloc's extractors cannot do it.
        overwrite: make the file from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` images that cannot be read, or ``stop`` at the first.

    Returns:
        ``feature_path``.

    Raises:
        UnreadableImages: some images could not be read; all others are in the file.
        DiskHlocError: no images, no weights, no space, a file made with another conf, or an image
            that cannot be read with ``on_error="stop"``; those before it are kept.
    """
    chosen = work(
        conf, image_dir, feature_path,
        image_list=image_list, masks=masks, turns=turns, on_error=on_error,
    )  # fmt: skip
    return chosen.run(overwrite=overwrite, device=device)


def work(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    turns: Turns | None = None,
    on_error: str = "skip",
) -> Work | HlocWork:
    """Return the work that :func:`main` does. See there for arguments and errors."""
    require_output(feature_path, "hdf5", {"image list": image_list, **input_files(masks or {})})
    require_on_error(on_error)
    names = chosen_images(image_dir, image_list, masks)
    model_name = conf["model"]["name"]
    if not models.has("extractors", model_name):
        if turns:
            raise DiskHlocError(
                f"{model_name} runs through hloc, which takes photos as they are stored: use "
                "--turn none"
            )
        make = partial(through_hloc.extract, conf, image_dir, names, feature_path, masks)
        return HlocWork(feature_path, model_name, make, renumbers=masks is not None)
    task = partial(_task, conf, image_dir, masks=masks, exact=image_list is None, on_error=on_error)
    turns = turns or {}
    return Work(
        feature_path,
        names,
        task(turns),
        partial(_report, names=names, image_dir=image_dir, feature_path=feature_path, masks=masks),
        MAX_IMAGES_PER_SHARD,
        order=lambda names, _: list(names),
        narrowed=lambda names: task({name: turns[name] for name in names if name in turns}),
    )


def _task(
    conf: Mapping[str, Any],
    image_dir: Path,
    turns: Turns,
    *,
    masks: Mapping[str, Any] | None,
    exact: bool,
    on_error: str,
) -> Task:
    return Task(
        made_with(conf),
        arrays=("keypoints", "image_size"),
        unit="image",
        plan=partial(_plan, image_dir=image_dir, masks=masks, turns=turns, exact=exact),
        load=partial(_load, conf, masks),
        compute=partial(
            _extract, preprocessing=conf["preprocessing"], turns=turns, on_error=on_error
        ),
        paths={"image_dir": image_dir},
    )


def chosen_images(
    image_dir: Path, image_list: Path | None = None, masks: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the images of a folder, or those that a list names.

    Args:
        image_dir: the folder.
        image_list: the list.
        masks: where keypoints may be: images in the folder of masks are not photos.

    Raises:
        DiskHlocError: there are no images, or the list names images that do not exist.
    """
    if image_list is not None:
        return read_image_list(image_list, image_dir)
    return list_images(image_dir, without=[mask_folder(masks)])


def made_with(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the features of all photos depend on, as their file remembers it."""
    model = conf["model"]
    return {
        FORMAT_KEY: FORMAT,
        "model": models.load("extractors", model["name"]).identity(model),
        "preprocessing": {**DEFAULT_PREPROCESSING, **conf["preprocessing"]},
    }


@dataclass
class Extracted:
    """What is known of images besides their features.

    Attributes:
        count: how many there were to extract.
        unreadable: name -> why it could not be read.
        unmasked: names of those that have no mask.
        seen: name -> what the photo and its mask were.
        odd: name -> why it is hardly a photo (:mod:`disk_hloc.io.not_photos`).
    """

    count: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    unmasked: set[str] = field(default_factory=set)
    seen: dict[str, Seen] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)


def _plan(
    names: Sequence[str],
    found: Mapping[str, Fingerprint | None],
    feature_path: Path,
    *,
    image_dir: Path,
    masks: Mapping[str, Any] | None,
    turns: Turns,
    exact: bool,
) -> Plan:
    inputs = Inputs(feature_path, image_dir, None if masks is None else Masks(masks))
    planned = plan(
        feature_path, names, found, lambda name, _: inputs.of(name, turns.get(name, 0)),
        kinds=("photos", "masks", "turns"), unit="image", verb="extract", exact=exact,
    )  # fmt: skip
    inputs.save()
    return planned


def _load(
    conf: Mapping[str, Any], masks: Mapping[str, Any] | None, device: str
) -> tuple[Extractor, Masks | None]:
    sources = None if masks is None else Masks(masks)
    model_class = models.load("extractors", conf["model"]["name"])
    return model_class(conf["model"]).to(devices.resolve(device)), sources


def _extract(
    loaded: tuple[Extractor, Masks | None],
    names: Sequence[str],
    store: Store,
    *,
    image_dir: Path,
    preprocessing: Mapping[str, Any],
    turns: Turns,
    on_error: str,
) -> Extracted:
    """Extract images, and write each as it is done."""
    model, sources = loaded
    result = Extracted(count=len(names))
    at_once = model.images_at_once.get(model.device.type, 1)
    # A GPU would wait for one reader; a CPU's cores are busy with the network.
    readers = min(8, os.cpu_count() or 1) if model.device.type == "cuda" else 1
    photos = read_ahead(
        image_dir, names, preprocessing, 2 * max(at_once, readers), sources, turns, readers
    )
    progress = tqdm(photos, total=len(names), desc="Extract", unit="image") if names else photos

    def readable() -> Iterator[Photo]:
        for name, photo in progress:
            if not isinstance(photo, ImageReadError):
                if odd := not_photos.oddity(photo.image):
                    result.odd[name] = odd
                yield photo
                continue
            result.unreadable[name] = str(photo)
            if on_error == "stop":
                return  # what was read before is extracted first

    batches = of_one_size(readable(), at_once)
    extracted = devices.within_memory(batches, partial(extract_photos, model), model.device)
    for photo, features in extracted:
        if features is not None:
            assert photo.seen is not None
            store.add(*feature_entry(photo.name, *features), photo.seen.inputs)
            result.seen[photo.name] = photo.seen
            continue
        height, width = photo.image.shape[1:]
        result.unreadable[photo.name] = (
            f"{width}x{height} px need more memory than {model.device} has: give the conf a "
            "smaller resize_max"
        )
        if on_error == "stop":
            break
    if result.unreadable and on_error == "stop":
        name, reason = next(iter(result.unreadable.items()))
        raise DiskHlocError(f"{image_dir / name} cannot be read: {reason}")
    if sources is not None:
        result.unmasked = sources.missing
    return result


def _report(
    parts: Sequence[Extracted],
    *,
    names: Sequence[str],
    image_dir: Path,
    feature_path: Path,
    masks: Mapping[str, Any] | None,
) -> None:
    """Tell the user about images without masks, those that are no photos or cannot be read.

    Raises:
        UnreadableImages: some images could not be read.
        DiskHlocError: no image could be read.
    """
    reasons: dict[str, str] = {}
    seen: dict[str, Seen] = {}
    odd: dict[str, str] = {}
    for part in parts:
        reasons |= part.unreadable
        seen |= part.seen
        odd |= part.odd
    not_photos.warn(odd, {name: found.size for name, found in seen.items()})
    if seen:
        inputs = Inputs(feature_path, image_dir, None if masks is None else Masks(masks))
        for name, found in seen.items():
            inputs.note(name, found)
        inputs.save()
    log_missing(set().union(*(part.unmasked for part in parts)), sum(p.count for p in parts))
    failures = {name: reasons[name] for name in names if name in reasons}
    if len(failures) == len(names):
        listed = listing([f"{name} ({reason})" for name, reason in failures.items()])
        raise DiskHlocError(f"no image of {image_dir} can be read: {listed}")
    if failures:
        raise UnreadableImages(failures, feature_path)


@torch.inference_mode()
def extract_photos(model: Extractor, photos: Sequence[Photo]) -> list[Features]:
    """Extract features of photos that have one size after resizing and turning.

    Returns:
        For each photo, in the coordinates of its file, the arrays of
        :mod:`disk_hloc.io.hloc.features`, descriptors as float16; and the uncertainty of its
        keypoints in pixels, one pixel of the resized image.
    """
    images = [torch.from_numpy(photo.image).to(model.device) for photo in photos]
    data: dict[str, Any] = {"image": torch.stack(images)}
    if any(photo.mask is not None for photo in photos):
        data["keep"] = [_judge(photo) for photo in photos]
    found = model(data)
    # As they are stored: half as much to copy from a GPU.
    found["descriptors"] = [descriptors.half() for descriptors in found["descriptors"]]
    results = []
    for i, photo in enumerate(photos):
        prediction = {key: values[i].cpu().numpy() for key, values in found.items()}
        features = {
            "keypoints": in_original(photo, prediction["keypoints"]),
            "keypoint_scores": prediction["keypoint_scores"],
            "scores": prediction["keypoint_scores"],
            "descriptors": prediction["descriptors"],
            "image_size": np.array(photo.original_size),
        }
        scale = np.array(photo.original_size) / photo.resized_size
        results.append((features, float(scale.mean())))
    return results


def _judge(photo: Photo) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that says which keypoints of the resized photo its mask keeps."""

    def keep(xy: torch.Tensor) -> torch.Tensor:
        if photo.mask is None:
            return torch.ones(len(xy), dtype=torch.bool, device=xy.device)
        kept = keep_keypoints(photo.mask, in_original(photo, xy.cpu().numpy()))
        return torch.from_numpy(kept).to(xy.device)

    return keep
