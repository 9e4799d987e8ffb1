"""Random changes of a photo's light and quality, as MSNet is trained with.

They are those of lin-zju/my-descriptor-space on GitHub (``transforms.py``), with the same chances:
JPEG, blur, noise or motion blur, and changes of brightness, contrast, saturation and hue.
"""

from __future__ import annotations

import cv2
import numpy as np

JPEG_QUALITY = (15, 75)
BLUR_SIDES, BLUR_CHANCES = (3, 5, 7, 9, 11), (0.4, 0.3, 0.2, 0.05, 0.05)  # pixels
MOTION_SIDES = (3, 5, 7, 9)  # pixels
NOISE_VARIANCE = 0.3 * 256
# Largest relative change of brightness, contrast and saturation, and of hue in turns.
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.5, 0.2, 0.2, 0.2


def photometric_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the quality and the light of a photo.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: of the random numbers.

    Returns:
        (H, W, 3) uint8.
    """
    if rng.random() < 0.5:
        image = _compressed(image, int(rng.integers(*JPEG_QUALITY)))
    if rng.random() < 0.5:
        side = int(rng.choice(BLUR_SIDES, p=BLUR_CHANCES))
        image = cv2.GaussianBlur(image, (side, side), 0)
    if rng.random() < 0.34:
        image = _noisy(image, rng) if rng.random() < 0.75 else _moved(image, rng)
    if rng.random() < 0.34:
        image = _relit(image, rng)
    return image


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise that is the same in all channels."""
    sigma = np.sqrt(rng.uniform(0, NOISE_VARIANCE))
    noise = rng.normal(0, sigma, (*image.shape[:2], 1))
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _moved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur along x or along y."""
    side = int(rng.choice(MOTION_SIDES))
    return cv2.blur(image, (side, 1) if rng.random() < 0.5 else (1, side))


def _relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue, one after the other."""
    values = image.astype(np.float32) / 255
    values = (values * rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)).clip(0, 1)
    middle = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY).mean()
    values = ((values - middle) * rng.uniform(1 - CONTRAST, 1 + CONTRAST) + middle).clip(0, 1)
    gray = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[:, :, None]
    values = ((values - gray) * rng.uniform(1 - SATURATION, 1 + SATURATION) + gray).clip(0, 1)
    colors = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)
    colors[:, :, 0] = (colors[:, :, 0] + 360 * rng.uniform(-HUE, HUE)) % 360
    return np.rint(255 * cv2.cvtColor(colors, cv2.COLOR_HSV2RGB)).astype(np.uint8)
