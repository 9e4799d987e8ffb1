"""Photos to a features file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc import models, plugin
from disk_hloc.errors import DiskHlocError, UnreadableImages, listing, require_on_error
from disk_hloc.io.hloc.features import feature_entry
from disk_hloc.io.images import ImageReadError, list_images, read_image_list
from disk_hloc.io.loader import Photo, in_original, of_one_size, read_ahead
from disk_hloc.io.masks import Masks, keep_keypoints, log_missing, to_json
from disk_hloc.io.store import writing
from disk_hloc.log import logger
from disk_hloc.models.base import Extractor

# The arrays of an image, and its keypoints' uncertainty.
Features = tuple[dict[str, np.ndarray], float]


def main(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
) -> Path:
    """Extract features of the images of a folder.

    Images that the file already holds are kept as they are, so a run that was stopped resumes.
    A conf whose model is not ours runs through hloc's own ``extract_features.main``.

    Args:
        conf: ``{output, model, preprocessing}`` as hloc's; see configs/extractors.yaml.
        image_dir: the photos, at any depth.
        feature_path: the features file to make or to add to (:mod:`disk_hloc.io.hloc.features`).
        image_list: a file of image names; without it, all images of the folder.
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`); a masked pixel
            becomes no keypoint, so ``max_keypoints`` is spent on the others.
        overwrite: start the file anew.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` images that cannot be read, or ``stop`` at the first.

    Returns:
        ``feature_path``.

    Raises:
        UnreadableImages: some images could not be read; all others are in the file.
        DiskHlocError: no images, no weights, no space, a file made with another conf, or an image
            that cannot be read with ``on_error="stop"``; those before it are kept.
    """
    require_on_error(on_error)
    names = chosen_images(image_dir, image_list)
    model_name = conf["model"]["name"]
    if not models.has("extractors", model_name):
        if masks is not None:
            raise DiskHlocError(
                f"{model_name} takes no masks as it extracts: extract without them, "
                "then run `disk-hloc mask` on the features"
            )
        hloc = plugin.hloc_module("extract_features", needed_for=model_name)
        try:
            return hloc.main(
                conf, image_dir, image_list=names, feature_path=feature_path, overwrite=overwrite
            )
        except ValueError as error:
            # hloc's words, at the end of a worker's traceback.
            unreadable = re.findall(r"Cannot read image (.+)\.", str(error))
            if not unreadable:
                raise
            raise DiskHlocError(
                f"{unreadable[-1]} cannot be read, and hloc ends there: mend or remove it, then "
                "run the same command again"
            ) from error
    done = extract_images(
        conf,
        image_dir,
        names,
        feature_path,
        masks=masks,
        overwrite=overwrite,
        on_error=on_error,
        device=device,
    )
    report(done, names, image_dir, feature_path)
    return feature_path


def chosen_images(image_dir: Path, image_list: Path | None = None) -> list[str]:
    """The images of a folder, or those that a list names.

    Raises:
        DiskHlocError: there are none, or the list names images that do not exist.
    """
    return read_image_list(image_list, image_dir) if image_list else list_images(image_dir)


def made_with(conf: Mapping[str, Any], masks: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the features depend on, as their file remembers it."""
    made_with = {key: conf[key] for key in ("model", "preprocessing")}
    return made_with if masks is None else made_with | {"masks": to_json(masks)}


@dataclass
class Extracted:
    """What came of images, beside their features.

    Attributes:
        count: how many there were to extract.
        unreadable: name -> why it could not be read.
        unmasked: those that no source of masks had a mask of.
    """

    count: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    unmasked: set[str] = field(default_factory=set)


def extract_images(
    conf: Mapping[str, Any],
    image_dir: Path,
    names: Sequence[str],
    feature_path: Path,
    *,
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_error: str = "skip",
    device: str = "auto",
) -> Extracted:
    """As :func:`main`, of a model of ours and of given images; those unreadable are returned."""
    sources = None if masks is None else Masks(masks)
    model_class = models.load("extractors", conf["model"]["name"])
    model = model_class(conf["model"]).to(devices.resolve(device))
    result = Extracted()
    with writing(feature_path, made_with(conf, masks), overwrite=overwrite) as store:
        done = store.done("keypoints", "image_size")
        todo = [name for name in names if name not in done]
        if len(todo) < len(names):
            logger.info("%d of %d images are extracted already", len(names) - len(todo), len(names))
        result.count = len(todo)
        at_once = model.images_at_once.get(model.device.type, 1)
        photos = read_ahead(image_dir, todo, conf["preprocessing"], 2 * at_once, sources)
        progress = tqdm(photos, total=len(todo), desc="Extract", unit="image") if todo else photos

        def readable() -> Iterator[Photo]:
            for name, photo in progress:
                if not isinstance(photo, ImageReadError):
                    yield photo
                    continue
                result.unreadable[name] = str(photo)
                if on_error == "stop":
                    return  # what was read before is extracted first

        batches = of_one_size(readable(), at_once)
        extracted = devices.within_memory(batches, partial(extract_photos, model), model.device)
        for photo, features in extracted:
            if features is not None:
                store.add(*feature_entry(photo.name, *features))
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


def report(extracted: Extracted, names: Sequence[str], image_dir: Path, feature_path: Path) -> None:
    """Say what the user should know of an extraction.

    Args:
        extracted: what came of it.
        names: of all images that were asked for.
        image_dir: where they are.
        feature_path: the features file.

    Raises:
        UnreadableImages: some images could not be read.
        DiskHlocError: not one could.
    """
    log_missing(extracted.unmasked, extracted.count)
    failures = extracted.unreadable
    if len(failures) == len(names):
        listed = listing([f"{name} ({reason})" for name, reason in failures.items()])
        raise DiskHlocError(f"not one image of {image_dir} can be read: {listed}")
    if failures:
        raise UnreadableImages(failures, feature_path)


@torch.inference_mode()
def extract_photos(model: Extractor, photos: Sequence[Photo]) -> list[Features]:
    """Features of photos of one size (resized) in the coordinates of their files.

    Returns:
        For each the arrays of :mod:`disk_hloc.io.hloc.features`, descriptors as float16; and the
        keypoints' uncertainty in pixels, one pixel of the resized image.
    """
    images = torch.from_numpy(np.stack([photo.image for photo in photos]))
    if model.device.type == "cuda":
        images = images.pin_memory()
    data: dict[str, Any] = {"image": images.to(model.device, non_blocking=True)}
    if any(photo.mask is not None for photo in photos):
        data["keep"] = [_judge(photo) for photo in photos]
    found = model(data)
    results = []
    for i, photo in enumerate(photos):
        prediction = {key: values[i].cpu().numpy() for key, values in found.items()}
        features = {
            "keypoints": in_original(photo, prediction["keypoints"]),
            "keypoint_scores": prediction["keypoint_scores"],
            "scores": prediction["keypoint_scores"],
            "descriptors": prediction["descriptors"].astype(np.float16),
            "image_size": np.array(photo.original_size),
        }
        scale = np.array(photo.original_size) / photo.image.shape[:0:-1]
        results.append((features, float(scale.mean())))
    return results


def _judge(photo: Photo) -> Callable[[torch.Tensor], torch.Tensor]:
    """Which keypoints of the resized photo its mask keeps; without one, all."""

    def keep(xy: torch.Tensor) -> torch.Tensor:
        if photo.mask is None:
            return torch.ones(len(xy), dtype=torch.bool, device=xy.device)
        kept = keep_keypoints(photo.mask, in_original(photo, xy.cpu().numpy()))
        return torch.from_numpy(kept).to(xy.device)

    return keep
