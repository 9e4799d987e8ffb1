"""Pictures of photos with their masks and keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from disk_hloc.io.hloc.features import list_keypoints, read_keypoints
from disk_hloc.io.masks import Masks, keep_keypoints
from disk_hloc.io.output_folder import mark
from disk_hloc.io.outputs import require_output_folder
from disk_hloc.io.store import reading

from .drawing import BAD_COLOR, GOOD_COLOR, Color, draw_dots, read_photo, save_picture, to_image

TINT: Color = (230, 40, 160)


def mask_previews(
    folder: Path, image_dir: Path, feature_path: Path, conf: Mapping[str, Any] | None
) -> Path:
    """Draw each photo of a features file: mask tinted, keypoints kept and dropped.

    Args:
        folder: gets ``a/b.jpg.png`` for ``a/b.jpg``.
        image_dir: the photos.
        feature_path: the features file. Keypoints that the mask drops are there only if the file
            was extracted without it.
        conf: of the masks (:data:`disk_hloc.io.masks.DEFAULT_CONF`); None draws keypoints alone.

    Returns:
        ``folder``.

    Raises:
        DiskHlocError: the folder is that of the photos, or a photo cannot be read.
    """
    # Masks, too, may be called `a/b.jpg.png`.
    mask_dir = (conf or {}).get("folder")
    require_output_folder(folder, {"photos": image_dir, "masks": mask_dir and Path(mask_dir)})
    mark(folder)
    masks = Masks(conf) if conf is not None else None
    with reading(feature_path) as features:
        for name in tqdm(list_keypoints(feature_path), desc="Preview", unit="image"):
            photo = read_photo(image_dir / name)
            height, width = photo.shape[:2]
            keep = masks(name, (width, height)) if masks else np.ones((height, width), dtype=bool)
            picture = photo_with_mask(photo, keep, read_keypoints(features, name))
            path = folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_picture(picture, path)
    return folder


def photo_with_mask(photo: np.ndarray, keep: np.ndarray, keypoints: np.ndarray) -> Image.Image:
    """Draw a photo with the ignored region tinted, kept keypoints green and dropped ones red.

    Args:
        photo: (H, W, 3) uint8 RGB.
        keep: (H, W) bool, True where keypoints may be.
        keypoints: (N, 2) x and y in pixels, (0, 0) at the centre of the top-left pixel.
    """
    tinted = photo.copy()
    tinted[~keep] = (0.5 * photo[~keep] + 0.5 * np.array(TINT)).astype(np.uint8)
    panel = to_image(tinted)
    kept = keep_keypoints(keep, keypoints)
    radius = max(1.5, max(photo.shape) / 600)
    colors = [GOOD_COLOR if one else BAD_COLOR for one in kept]
    draw_dots(ImageDraw.Draw(panel), keypoints, colors, radius)
    return panel
