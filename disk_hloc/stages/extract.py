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
from ..io.images import ImageReadError, list_images, original_coordinates, read_image_list
from ..io.loader import Photo, read_ahead
from ..io.masks import Masks, keep_keypoints, to_json
from ..io.store import claim, writing_behind
from ..log import logger
from ..models.aliked import ALIKED
from ..models.disk import DISK
from ..models.sift import SIFT

# ALIKED's has a name of its own, so that hloc's confs for it go on naming hloc's.
EXTRACTORS: dict[str, type[DISK] | type[ALIKED] | type[SIFT]] = {
    "disk": DISK,
    "kornia_aliked": ALIKED,
    "opencv_sift": SIFT,
}


def main(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
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
        masks: where keypoints may be (:data:`disk_hloc.io.masks.DEFAULT_CONF`); a masked pixel
            becomes no keypoint, so ``max_keypoints`` is spent on the others.
        overwrite: start the file anew.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``feature_path``.

    Raises:
        UnreadableImages: some images could not be read; all others are in the file.
        DiskHlocError: no images, no weights, no space, or a file made with another conf.
    """
    names = read_image_list(image_list, image_dir) if image_list else list_images(image_dir)
    model_name = conf["model"]["name"]
    if model_name not in EXTRACTORS:
        if masks is not None:
            raise DiskHlocError(
                f"{model_name} takes no masks as it extracts: extract without them, "
                "then run `disk-hloc mask` on the features"
            )
        hloc = plugin.hloc_module("extract_features", needed_for=model_name)
        return hloc.main(
            conf, image_dir, image_list=names, feature_path=feature_path, overwrite=overwrite
        )
    sources = None if masks is None else Masks(masks)
    model = EXTRACTORS[model_name](conf["model"]).to(devices.resolve(device))
    made_with = {key: conf[key] for key in ("model", "preprocessing")}
    if masks is not None:
        made_with["masks"] = to_json(masks)
    claim(feature_path, made_with, overwrite)
    done = set(list_features(feature_path))
    todo = [name for name in names if name not in done]
    if len(todo) < len(names):
        logger.info("%d of %d images are extracted already", len(names) - len(todo), len(names))
    failures: dict[str, str] = {}
    photos = read_ahead(image_dir, todo, conf["preprocessing"], masks=sources)
    progress = tqdm(photos, total=len(todo), desc="Extract", unit="image", disable=not todo)
    with writing_behind() as write:
        for name, photo in progress:
            if isinstance(photo, ImageReadError):
                failures[name] = str(photo)
                continue
            features, uncertainty = extract_photo(model, photo)
            write(write_features, feature_path, name, features, uncertainty)
    if sources is not None:
        sources.log_missing(len(todo))
    if len(failures) == len(names):
        listed = listing([f"{name} ({reason})" for name, reason in failures.items()])
        raise DiskHlocError(f"not one image of {image_dir} can be read: {listed}")
    if failures:
        raise UnreadableImages(failures, feature_path)
    return feature_path


@torch.inference_mode()
def extract_photo(model: DISK | ALIKED | SIFT, photo: Photo) -> tuple[dict[str, np.ndarray], float]:
    """Features of one photo in the coordinates of its file.

    Returns:
        The arrays of :mod:`disk_hloc.io.features`, descriptors as float16; and the keypoints'
        uncertainty in pixels, one pixel of the resized image.
    """
    resized = photo.image.shape[:0:-1]

    def original(keypoints: torch.Tensor) -> np.ndarray:
        moved = [
            original_coordinates(values, photo.original_size[axis], resized[axis])
            for axis, values in enumerate(keypoints.cpu().numpy().T)
        ]
        return np.stack(moved, axis=1)

    data: dict[str, Any] = {"image": torch.from_numpy(photo.image)[None].to(model.device)}
    mask = photo.mask
    if mask is not None:
        data["keep"] = [
            lambda xy: torch.from_numpy(keep_keypoints(mask, original(xy))).to(xy.device)
        ]
    found = {key: values[0] for key, values in model(data).items()}
    prediction = {key: values.cpu().numpy() for key, values in found.items()}
    scale = np.array(photo.original_size) / resized
    features = {
        "keypoints": original(found["keypoints"]),
        "keypoint_scores": prediction["keypoint_scores"],
        "scores": prediction["keypoint_scores"],
        "descriptors": prediction["descriptors"].astype(np.float16),
        "image_size": np.array(photo.original_size),
    }
    return features, float(scale.mean())
