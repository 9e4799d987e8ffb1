"""What the release's detect.py does: photos to keypoints, descriptors and scores."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc.choices import DETECT_MODES
from disk_hloc.errors import DiskHlocError, UnreadableImages, listing, require_on_error
from disk_hloc.io import release as files
from disk_hloc.io.images import ImageReadError, read_image
from disk_hloc.io.store import writing
from disk_hloc.log import logger
from disk_hloc.models.disk_network.keypoints import find_released_keypoints, sample_keypoints
from disk_hloc.models.disk_network.unet import DESCRIPTOR_DIM, STRIDE
from disk_hloc.models.extractors.disk import DISK


def main(
    h5_dir: Path,
    image_dir: Path,
    *,
    height: int | None = None,
    width: int | None = None,
    image_extension: str = "jpg",
    f16: bool = False,
    window: int = 5,
    n: int | None = None,
    desc_dim: int = DESCRIPTOR_DIM,
    mode: str = "nms",
    model_path: str = "depth",
    detection_scores: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    on_error: str = "skip",
) -> Path:
    """Detect and describe the keypoints of a folder's photos.

    Photos are resized to fit ``height`` x ``width``, the rest is padded with zeros on the right
    and below. Where this parts from the release: what is there already is kept, if it was made
    with the same options (the release starts anew); a photo without keypoints has none, and is no
    error; an alpha channel is dropped.

    Args:
        h5_dir: gets ``keypoints.h5`` and ``descriptors.h5`` (:mod:`disk_hloc.io.release`).
        image_dir: the photos; folders in it are not searched.
        height, width: in pixels, multiples of 16; None for both leaves photos as they are.
        image_extension: of the photos to take, as it is written (``jpg`` is not ``JPG``).
        f16: store descriptors as float16.
        window: odd side of the NMS window in pixels.
        n: the most keypoints of a photo
            (:func:`disk_hloc.models.disk_network.keypoints.find_released_keypoints`);
            None keeps all. Those in the padding count, and are dropped after.
        desc_dim: the checkpoint's, 128.
        mode: ``nms``, or ``rng``: drawn at random as in training, whatever ``window`` and ``n``.
        model_path: a checkpoint, or ``depth`` or ``epipolar``.
        detection_scores: write ``scores.h5``, logits (``rng``: log-probabilities), too.
        overwrite: start anew.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` photos that cannot be read, or ``stop`` at the first.

    Returns:
        ``h5_dir``.

    Raises:
        DiskHlocError: an impossible option, no photo, no weights, no space, or files that were
            made with other options.
        UnreadableImages: some photos cannot be read; the others are done.
    """
    require_on_error(on_error)
    _check_options(height, width, window, n, desc_dim, mode)
    names = _list_photos(image_dir, image_extension)
    model = DISK({"weights": model_path, "precision": "float32"}).to(devices.resolve(device))
    kinds = ["keypoints", "descriptors"] + ["scores"] * detection_scores
    paths = [files.path_of(h5_dir, kind) for kind in kinds]
    made_with = {
        "height": height,
        "width": width,
        "f16": f16,
        "window": window,
        "n": n,
        "mode": mode,
        "model_path": model_path,
    }
    if not overwrite:
        files.require_ours(paths)
    failures = {}
    with ExitStack() as stack:
        stores = {
            kind: stack.enter_context(
                writing(path, made_with, overwrite=overwrite, libver=files.LIBVER)
            )
            for kind, path in zip(kinds, paths, strict=True)
        }
        done = set.intersection(
            *(
                store.names.union(files.names_of(store.base) if store.base else ())
                for store in stores.values()
            )
        )
        todo = [name for name in names if Path(name).stem not in done]
        if len(todo) < len(names):
            logger.info("%d of %d images are detected already", len(names) - len(todo), len(names))
        progress = tqdm(todo, desc="Detect", unit="image", disable=not todo)
        for name in progress:
            try:
                photo = read_image(image_dir / name)
            except ImageReadError as error:
                if on_error == "stop":
                    raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
                failures[name] = str(error)
                continue
            if height is None and any(side % STRIDE for side in photo.shape[:2]):
                raise DiskHlocError(
                    f"{image_dir / name} is {photo.shape[1]}x{photo.shape[0]} px, and a side is no "
                    f"multiple of {STRIDE}: give --height and --width, to which photos are resized"
                )
            arrays, scale = detect_photo(
                model, photo, (height, width) if height and width else None, window, n, mode
            )
            if f16:
                arrays["descriptors"] = arrays["descriptors"].astype(np.float16)
            progress.set_postfix(n=len(arrays["keypoints"]))
            for kind, store in stores.items():
                store.add(*files.array_entry(kind, Path(name).stem, arrays[kind], 1 / scale))
    if len(failures) == len(names):
        listed = listing([f"{name} ({reason})" for name, reason in failures.items()])
        raise DiskHlocError(f"not one image of {image_dir} can be read: {listed}")
    if failures:
        raise UnreadableImages(failures, paths[0])
    return h5_dir


@torch.inference_mode()
def detect_photo(
    model: DISK,
    photo: np.ndarray,
    size: tuple[int, int] | None = None,
    window: int = 5,
    n: int | None = None,
    mode: str = "nms",
) -> tuple[dict[str, np.ndarray], float]:
    """Keypoints of one photo, the greatest score first.

    Args:
        model: its network is used.
        photo: (H, W, 3) uint8 RGB.
        size: height and width to resize and pad to; None leaves the photo as it is.
        window, n, mode: see :func:`main`.

    Returns:
        ``keypoints`` (N, 2) float32 x and y in pixels of the photo, as released
        (:mod:`disk_hloc.io.release`); ``descriptors`` (N, 128) float32; ``scores`` (N,) float32;
        and the scale, by which the photo's sides were multiplied.
    """
    image = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1).float() / 255
    height, width = image.shape[1:]
    scale = 1.0
    if size is not None:
        image, scale = resize_and_pad(image, size)
    gated = model.unet(image[None].to(model.device), torch.float32)
    heatmap = model.unet.heatmap(gated)[0]
    if mode == "rng":
        xy, scores = sample_keypoints(heatmap)
    else:
        xy, scores = find_released_keypoints(heatmap, n, window)
    descriptors = model.unet.describe(gated[0], xy).T.cpu()
    keypoints, scores = xy.cpu().float() / scale, scores.cpu()
    inside = (keypoints < keypoints.new_tensor([width, height])).all(dim=1)
    order = torch.nonzero(inside)[:, 0]
    order = order[torch.sort(scores[order], stable=True).indices.flip(0)]
    arrays = {"keypoints": keypoints, "descriptors": descriptors, "scores": scores}
    return {kind: values[order].numpy() for kind, values in arrays.items()}, scale


def resize_and_pad(image: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
    """Resize to fit a size, bilinearly without smoothing; zeros fill the rest.

    Args:
        image: (3, h, w) float.
        size: height and width in pixels.

    Returns:
        (3, height, width); the scale. Its sides are cut to whole pixels, the scale is not.
    """
    height, width = image.shape[1:]
    shrink_y, shrink_x = height / size[0], width / size[1]
    # In the release's order of operations, on which the last bit depends.
    scale = 1 / max(shrink_y, shrink_x)
    if shrink_y > shrink_x:
        fitted = (size[0], max(1, int(scale * width)))
    else:
        fitted = (max(1, int(scale * height)), size[1])
    image = F.interpolate(image[None], size=fitted, mode="bilinear", align_corners=False)[0]
    return F.pad(image, (0, size[1] - fitted[1], 0, size[0] - fitted[0])), scale


def _check_options(
    height: int | None, width: int | None, window: int, n: int | None, desc_dim: int, mode: str
) -> None:
    if (height is None) != (width is None):
        raise DiskHlocError("give --height and --width together, or none of them")
    for option, side in (("--height", height), ("--width", width)):
        if side is not None and (side <= 0 or side % STRIDE):
            raise DiskHlocError(f"{option} is {side}, but must be a multiple of {STRIDE}")
    if window < 1 or window % 2 == 0:
        raise DiskHlocError(f"--window is {window}, but must be odd and positive")
    if n is not None and n < 0:
        raise DiskHlocError(f"--n is {n}, but cannot be negative")
    if desc_dim != DESCRIPTOR_DIM:
        raise DiskHlocError(
            f"--desc-dim is {desc_dim}, but the network has descriptors of {DESCRIPTOR_DIM}"
        )
    if mode not in DETECT_MODES:
        raise DiskHlocError(f"no mode is called {mode!r}; known: {', '.join(DETECT_MODES)}")


def _list_photos(image_dir: Path, extension: str) -> list[str]:
    if not image_dir.is_dir():
        raise DiskHlocError(f"there is no folder {image_dir}")
    suffix = files.dotted(extension)
    names = sorted(
        path.name for path in image_dir.iterdir() if path.name.endswith(suffix) and path.is_file()
    )
    if not names:
        raise DiskHlocError(f"no *{suffix} in {image_dir}: see --image-extension")
    return names
