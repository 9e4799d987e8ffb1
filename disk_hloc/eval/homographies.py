"""A small data set in HPatches' layout, made from any photos by known homographies and light.

It can be used where HPatches is not available. The layout is described in
:mod:`disk_hloc.io.benchmarks.hpatches`. The homographies are exact, so figures are higher than on
photos that were taken twice.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.hpatches import NUMBERS
from disk_hloc.io.images import ImageReadError, list_images, read_image, resize_image
from disk_hloc.io.outputs import require_output_folder

# The first photo of a scene shows the middle of the photo, this share of its sides. The others see
# beyond it.
MIDDLE = 0.7


def main(
    image_dir: Path, output: Path, *, size: int = 640, seed: int = 0, limit: int | None = None
) -> Path:
    """Make two scenes of each photo, ``i_<name>`` and ``v_<name>``.

    Args:
        image_dir: the photos, at any depth.
        output: the folder to make; scenes in it are replaced.
        size: the longer side of the scenes' photos in pixels; a smaller photo is enlarged.
        seed: of the random changes.
        limit: the greatest number of photos to take, in the order of their names.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: there are no photos, one cannot be read, or two have the same name.
    """
    require_output_folder(output, {"photos": image_dir})
    names = list_images(image_dir)[:limit]
    scenes = [str(PurePosixPath(name).with_suffix("")).replace("/", "-") for name in names]
    if len(set(scenes)) < len(scenes):
        raise DiskHlocError(f"photos in {image_dir} differ only in their suffix: rename one")
    for i, name in enumerate(tqdm(names, desc="Make", unit="photo")):
        try:
            photo = read_image(image_dir / name)
        except ImageReadError as error:
            raise DiskHlocError(f"{image_dir / name}: {error}; fix or remove it") from error
        rng = np.random.default_rng([seed, i])
        write_scenes(photo, output, scenes[i], size, rng)
    return output


def write_scenes(
    photo: np.ndarray, output: Path, name: str, size: int, rng: np.random.Generator
) -> None:
    """Make the two scenes of one photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        output: the folder of the scenes.
        name: the scenes' name without ``i_`` and ``v_``.
        size: the longer side of the scenes' photos in pixels.
        rng: of the random changes.
    """
    scale = size / MIDDLE / max(photo.shape[:2])
    whole = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    full = resize_image(photo.astype(np.float32), whole, "cv2_area")
    width, height = round(whole[0] * MIDDLE), round(whole[1] * MIDDLE)
    left, top = (whole[0] - width) // 2, (whole[1] - height) // 2
    first = full[top : top + height, left : left + width]
    crop = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    for scene in (f"i_{name}", f"v_{name}"):
        (output / scene).mkdir(parents=True, exist_ok=True)
        _write(output / scene / "1.ppm", first)
    for number in NUMBERS:
        strength = (number - 1) / len(NUMBERS)
        _write(output / f"i_{name}" / f"{number}.ppm", relight(first, strength, rng))
        np.savetxt(output / f"i_{name}" / f"H_1_{number}", np.eye(3), fmt="%.10g")
        homography = random_homography((width, height), strength, rng)
        np.savetxt(output / f"v_{name}" / f"H_1_{number}", homography, fmt="%.10g")
        warped = cv2.warpPerspective(full, homography @ crop, (width, height))
        _write(output / f"v_{name}" / f"{number}.ppm", warped)


def relight(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Change exposure, contrast and colour of the light, with a gradient and noise.

    Args:
        image: (H, W, 3) float32, 0 to 255.
        strength: 0 to 1.
        rng: of the random changes.

    Returns:
        (H, W, 3) float32.
    """
    gamma = np.exp(strength * rng.choice([-1, 1]) * rng.uniform(0.4, 0.8))
    color = np.exp(strength * rng.uniform(-0.3, 0.3, 3))
    across = np.linspace(1, 1 - 0.6 * strength, image.shape[1])[None, :, None]
    if rng.random() < 0.5:
        across = across[:, ::-1]
    lit = 255 * (image / 255) ** gamma * color * across
    return (lit + rng.normal(0, 4 * strength, image.shape)).astype(np.float32)


def random_homography(
    size: tuple[int, int], strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a random rotation, scale and shift, with corners that move on their own.

    Args:
        size: width and height of the photo in pixels.
        strength: from 0, which gives the identity, to 1.
        rng: of the random changes.

    Returns:
        (3, 3) float64 with 1 as its last element, ``other_from_first``.
    """
    width, height = size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    center = corners.mean(axis=0)
    angle = strength * rng.uniform(-0.5, 0.5)
    scale = np.exp(strength * rng.uniform(-0.2, 0.3))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    moved = (corners - center) @ np.array([[cosine, sine], [-sine, cosine]]) + center
    moved += strength * np.array(size) * rng.uniform(-0.08, 0.08, (4, 2))
    moved += strength * np.array(size) * rng.uniform(-0.1, 0.1, 2)
    return cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))


def _write(path: Path, image: np.ndarray) -> None:
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if not cv2.imwrite(str(path), pixels[:, :, ::-1]):
        raise DiskHlocError(f"cannot write {path}: is the disk full?")
