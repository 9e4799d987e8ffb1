"""Photos to a features file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .. import device as devices
from .. import plugin
from ..errors import DiskHlocError, UnreadableImages, listing
from ..io.features import list_features, write_features
from ..io.images import ImageReadError, Photo, list_images, read_ahead, read_image_list
from ..io.store import claim
from ..log import logger
from ..models.disk import DISK


def main(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    image_list: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Extract features of the images of a folder.

    Images that the file already holds are kept as they are, so a run that was stopped resumes.
    A conf whose model is not ours runs through hloc's own ``extract_features.main``.

    Args:
        conf: ``{output, model, preprocessing}`` as hloc's; see configs/extractors.yaml.
        image_dir: the photos, at any depth.
        feature_path: the features file to make or to add to (:mod:`disk_hloc.io.features`).
        image_list: a file of image names; without it, all images of the folder.
        overwrite: start the file anew.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``feature_path``.

    Raises:
        UnreadableImages: some images could not be read; all others are in the file.
        DiskHlocError: no images, no weights, no space, or a file made with another conf.
    """
    names = read_image_list(image_list, image_dir) if image_list else list_images(image_dir)
    if conf["model"]["name"] != "disk":
        hloc = plugin.hloc_module("extract_features", needed_for=conf["model"]["name"])
        return hloc.main(
            conf, image_dir, image_list=names, feature_path=feature_path, overwrite=overwrite
        )
    model = DISK(conf["model"]).to(devices.resolve(device))
    claim(feature_path, {key: conf[key] for key in ("model", "preprocessing")}, overwrite)
    done = set(list_features(feature_path))
    todo = [name for name in names if name not in done]
    if len(todo) < len(names):
        logger.info("%d of %d images are extracted already", len(names) - len(todo), len(names))
    failures: dict[str, str] = {}
    photos = read_ahead(image_dir, todo, conf["preprocessing"])
    progress = tqdm(photos, total=len(todo), desc="Extract", unit="image", disable=not todo)
    for name, photo in progress:
        if isinstance(photo, ImageReadError):
            failures[name] = str(photo)
            continue
        features, uncertainty = extract_photo(model, photo)
        write_features(feature_path, name, features, uncertainty)
    if len(failures) == len(names):
        listed = listing([f"{name} ({reason})" for name, reason in failures.items()])
        raise DiskHlocError(f"not one image of {image_dir} can be read: {listed}")
    if failures:
        raise UnreadableImages(failures, feature_path)
    return feature_path


@torch.inference_mode()
def extract_photo(model: DISK, photo: Photo) -> tuple[dict[str, np.ndarray], float]:
    """Features of one photo in the coordinates of its file.

    Returns:
        The arrays of :mod:`disk_hloc.io.features`, descriptors as float16; and the keypoints'
        uncertainty in pixels, one pixel of the resized image.
    """
    device = next(model.parameters()).device
    image = torch.from_numpy(photo.image)[None].to(device)
    prediction = {key: values[0].cpu().numpy() for key, values in model({"image": image}).items()}
    resized = np.array(photo.image.shape[:0:-1])
    scale = (np.array(photo.original_size) / resized).astype(np.float32)
    features = {
        "keypoints": (prediction["keypoints"] + 0.5) * scale - 0.5,
        "keypoint_scores": prediction["keypoint_scores"],
        "scores": prediction["keypoint_scores"],
        "descriptors": prediction["descriptors"].astype(np.float16),
        "image_size": np.array(photo.original_size),
    }
    return features, float(scale.mean())
