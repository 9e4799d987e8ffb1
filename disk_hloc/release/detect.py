"""Detect and describe keypoints like the release's detect.py."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
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
from disk_hloc.io.images import ImageReadError
from disk_hloc.io.inputs import Inputs, Seen
from disk_hloc.io.loader import read_with_digest
from disk_hloc.io.store import FORMAT, FORMAT_KEY, Plan, Store, plan, writing
from disk_hloc.io.store.fingerprints import NOTHING
from disk_hloc.models.disk_network.keypoints import find_released_keypoints, sample_keypoints
from disk_hloc.models.disk_network.unet import DESCRIPTOR_DIM, STRIDE
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.weights import identify


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
    """Detect and describe the keypoints of the photos in a folder.

    Photos are resized to fit ``height`` x ``width`` and padded with zeros at the right and bottom.
    There are three differences from the release: existing results with the same options are kept
    (the release starts over), a photo without keypoints is not an error, and an alpha channel is
    dropped.

    Args:
        h5_dir: gets ``keypoints.h5`` and ``descriptors.h5`` (:mod:`disk_hloc.io.release`).
        image_dir: the folder of the photos; its subfolders are not searched.
        height, width: size in pixels, multiples of 16; None for both does not resize.
        image_extension: extension of the photos, case-sensitive.
        f16: store descriptors as float16.
        window: odd side of the NMS window in pixels.
        n: maximum number of keypoints per photo
            (:func:`disk_hloc.models.disk_network.keypoints.find_released_keypoints`); None keeps
            all. Keypoints in the padding count, and are dropped afterwards.
        desc_dim: length of the checkpoint's descriptors, 128.
        mode: ``nms``, or ``rng`` to sample keypoints as in training, without ``window`` and ``n``.
        model_path: a checkpoint, or ``depth`` or ``epipolar``.
        detection_scores: also write ``scores.h5``, the logits (``rng``: log-probabilities).
        overwrite: start over.
        device: ``auto``, ``cpu``, ``cuda``, ...
        on_error: ``skip`` photos that cannot be read, or ``stop`` at the first one.

    Returns:
        ``h5_dir``.

    Raises:
        DiskHlocError: an option is invalid, there are no photos or weights, the disk is full, or
            the files were made with other options.
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
        FORMAT_KEY: FORMAT,
        "weights": identify(model_path),
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
        inputs = Inputs(paths[0], image_dir)
        planned = _plan(paths[0], names, list(stores.values()), inputs)
        planned.log()
        for store in stores.values():
            store.drop(planned.outdated)
        file_of = {Path(name).stem: name for name in names}
        todo = [file_of[stem] for stem in planned.todo]
        progress = tqdm(todo, desc="Detect", unit="image", disable=not todo)
        for name in progress:
            try:
                photo, stamp, digest = read_with_digest(image_dir / name)
            except ImageReadError as error:
                if on_error == "stop":
                    raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
                failures[name] = str(error)
                continue
            if height is None and any(side % STRIDE for side in photo.shape[:2]):
                raise DiskHlocError(
                    f"{image_dir / name} is {photo.shape[1]}x{photo.shape[0]} px, but its sides "
                    f"must be multiples of {STRIDE}: give --height and --width to resize photos"
                )
            arrays, scale = detect_photo(
                model, photo, (height, width) if height and width else None, window, n, mode
            )
            if f16:
                arrays["descriptors"] = arrays["descriptors"].astype(np.float16)
            progress.set_postfix(n=len(arrays["keypoints"]))
            seen = Seen(stamp, digest, (photo.shape[1], photo.shape[0]), None, NOTHING)
            inputs.note(name, seen)
            for kind, store in stores.items():
                entry = files.array_entry(kind, Path(name).stem, arrays[kind], 1 / scale)
                store.add(*entry, seen.inputs)
        inputs.save()
    if len(failures) == len(names):
        listed = listing([f"{name} ({reason})" for name, reason in failures.items()])
        raise DiskHlocError(f"no image in {image_dir} can be read: {listed}")
    if failures:
        raise UnreadableImages(failures, paths[0])
    return h5_dir


def _plan(path: Path, names: Sequence[str], stores: Sequence[Store], inputs: Inputs) -> Plan:
    """Return which images have to be detected; all files must have an image."""
    file_of = {Path(name).stem: name for name in names}
    listed = {
        name
        for store in stores
        for name in (*store.names, *(files.names_of(store.base) if store.base else ()))
    }
    found = [store.fingerprints_of(listed) for store in stores]
    everywhere = set.intersection(*map(set, found))
    # What one of the files is missing is made again in all of them.
    entries = {name: found[0][name] for name in sorted(everywhere)}
    planned = plan(
        path, list(file_of), entries, lambda stem, _: inputs.of(file_of[stem]),
        kinds=("photos",), unit="image", verb="detect",
    )  # fmt: skip
    return replace(planned, gone=planned.gone | (listed - set(file_of)))


@torch.inference_mode()
def detect_photo(
    model: DISK,
    photo: np.ndarray,
    size: tuple[int, int] | None = None,
    window: int = 5,
    n: int | None = None,
    mode: str = "nms",
) -> tuple[dict[str, np.ndarray], float]:
    """Detect and describe the keypoints of one photo, sorted by decreasing score.

    Args:
        model: the extractor whose network is used.
        photo: (H, W, 3) uint8 RGB.
        size: height and width in pixels after resizing and padding; None does not resize.
        window, n, mode: see :func:`main`.

    Returns:
        ``keypoints`` (N, 2) float32 x and y in pixels of the photo, in the release's coordinates
        (:mod:`disk_hloc.io.release`), ``descriptors`` (N, 128) float32 and ``scores`` (N,) float32;
        and the scale by which the photo's sides were multiplied.
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
    """Resize an image bilinearly without smoothing to fit a size, and pad it with zeros.

    Args:
        image: (3, h, w) float.
        size: height and width in pixels.

    Returns:
        (3, height, width) float; and the scale, without the rounding of sides to whole pixels.
    """
    height, width = image.shape[1:]
    shrink_y, shrink_x = height / size[0], width / size[1]
    # The last bit depends on the order of operations, which is that of the release.
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
        raise DiskHlocError("give both --height and --width, or neither")
    for option, side in (("--height", height), ("--width", width)):
        if side is not None and (side <= 0 or side % STRIDE):
            raise DiskHlocError(f"{option} must be a multiple of {STRIDE}, found {side}")
    if window < 1 or window % 2 == 0:
        raise DiskHlocError(f"--window must be odd and positive, found {window}")
    if n is not None and n < 0:
        raise DiskHlocError(f"--n must not be negative, found {n}")
    if desc_dim != DESCRIPTOR_DIM:
        raise DiskHlocError(
            f"--desc-dim must be {DESCRIPTOR_DIM} as in the network, found {desc_dim}"
        )
    if mode not in DETECT_MODES:
        raise DiskHlocError(f"--mode must be one of {', '.join(DETECT_MODES)}, found {mode!r}")


def _list_photos(image_dir: Path, extension: str) -> list[str]:
    if not image_dir.is_dir():
        raise DiskHlocError(f"the folder {image_dir} does not exist")
    suffix = files.dotted(extension)
    names = sorted(
        path.name for path in image_dir.iterdir() if path.name.endswith(suffix) and path.is_file()
    )
    if not names:
        raise DiskHlocError(f"no *{suffix} files in {image_dir}: see --image-extension")
    return names
