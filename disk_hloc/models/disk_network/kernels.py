"""Triton kernels of DISK's network on a GPU.

Between two convolutions torch reads and writes a map some ten times, and starts some twenty
kernels, which takes longer than the convolutions themselves. Each kernel here does one such step in
one pass, computing in float32 from maps of any float type. Maps are (B, H, W, C) and contiguous, as
in :mod:`.unet`; which functions of a map are needed is explained there.

Triton compiles a kernel when it is first used, within seconds, and keeps the result on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

# Values of a map that one program has in its registers.
_TILE_ELEMENTS = 4096
# Products of the last convolution in memory at a time: 512 MB.
_PRODUCT_ELEMENTS = 1 << 27
_KERNEL = 5
_TAPS = _KERNEL**2
# The next power of two, which a tile's side must be.
_TAPS_PADDED = 32
_TINY = torch.finfo(torch.float32).tiny


def _on_device_of_first(launch: Callable[P, R]) -> Callable[P, R]:
    """Start kernels on the GPU that the first argument is on; Triton takes the current one."""

    @wraps(launch)
    def launched(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0].sums if isinstance(args[0], Summed) else args[0]
        with torch.cuda.device_of(first):
            return launch(*args, **kwargs)

    return launched


@triton.jit
def _pool_kernel(
    full, pooled, sums_full, sums_pooled, height, width, num_blocks,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Average 2 x 2 pixels, and sum both maps and their squares, relative to the first pixel."""
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    half_width = width // 2
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    size = (height // 2) * half_width
    known = (pixel < size)[:, None]
    y, x = pixel // half_width, pixel % half_width
    start = full + image * height * width * CHANNELS
    centre = tl.load(start + channel).to(tl.float32)[None, :]
    corner = (2 * y).to(tl.int64) * width + 2 * x
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    squares = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for i in tl.static_range(4):
        place = (corner + (i // 2) * width + i % 2)[:, None] * CHANNELS + channel[None, :]
        value = tl.load(start + place, mask=known, other=0).to(tl.float32)
        value = tl.where(known, value - centre, 0)
        total += value
        squares += value * value
    mean = (total / 4 + centre).to(pooled.dtype.element_ty)
    at = (image * size + pixel)[:, None] * CHANNELS + channel[None, :]
    tl.store(pooled + at, mean, mask=known)
    rounded = tl.where(known, mean.to(tl.float32) - centre, 0)
    row = ((image * num_blocks + block) * 2) * CHANNELS + channel
    tl.store(sums_full + row, tl.sum(total, axis=0))
    tl.store(sums_full + row + CHANNELS, tl.sum(squares, axis=0))
    tl.store(sums_pooled + row, tl.sum(rounded, axis=0))
    tl.store(sums_pooled + row + CHANNELS, tl.sum(rounded * rounded, axis=0))


@triton.jit
def _doubled_sums_kernel(
    smaller, sums, height, width, num_blocks, CHANNELS: tl.constexpr, BLOCK: tl.constexpr
):
    """Sum a map, and the squares of the map doubled bilinearly, relative to the first pixel."""
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    known = (pixel < height * width)[:, None]
    y, x = pixel // width, pixel % width
    start = smaller + image * height * width * CHANNELS
    centre = tl.load(start + channel).to(tl.float32)[None, :]
    here = _pixels(start, y, x, width, channel, CHANNELS, known) - centre
    above = _pixels(start, tl.maximum(y - 1, 0), x, width, channel, CHANNELS, known)
    below = _pixels(start, tl.minimum(y + 1, height - 1), x, width, channel, CHANNELS, known)
    left = _pixels(start, y, tl.maximum(x - 1, 0), width, channel, CHANNELS, known)
    right = _pixels(start, y, tl.minimum(x + 1, width - 1), width, channel, CHANNELS, known)
    along_y = 1.25 * here + 0.375 * (above + below - 2 * centre)
    along_x = 1.25 * here + 0.375 * (left + right - 2 * centre)
    row = ((image * num_blocks + block) * 2) * CHANNELS + channel
    tl.store(sums + row, tl.sum(tl.where(known, here, 0), axis=0))
    tl.store(sums + row + CHANNELS, tl.sum(tl.where(known, along_y * along_x, 0), axis=0))


@triton.jit
def _normalisation_kernel(
    sums, first_pixels, image_elements, num_blocks, count, square_count,
    other_sums, other_first_pixels, other_image_elements, other_num_blocks, other_count,
    scale, shift, row_elements, epsilon,
    CHANNELS: tl.constexpr, OTHER_CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Turn the sums of one or two maps into what normalises them."""
    image = tl.program_id(0).to(tl.int64)
    row = image * row_elements
    if tl.program_id(1) == 0:
        _normalise(
            sums, first_pixels + image * image_elements, image, num_blocks, count, square_count,
            scale + row, shift + row, epsilon, CHANNELS, ROWS,
        )  # fmt: skip
    else:
        _normalise(
            other_sums, other_first_pixels + image * other_image_elements, image,
            other_num_blocks, other_count, other_count,
            scale + row + CHANNELS, shift + row + CHANNELS, epsilon, OTHER_CHANNELS, ROWS,
        )  # fmt: skip


@triton.jit
def _normalise(
    sums, first_pixel, image, num_blocks, count, square_count, scale, shift, epsilon,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, CHANNELS)
    total = tl.zeros((CHANNELS,), tl.float64)
    squares = tl.zeros((CHANNELS,), tl.float64)
    for start in range(0, num_blocks, ROWS):
        block = start + tl.arange(0, ROWS)
        row = ((image * num_blocks + block) * 2)[:, None] * CHANNELS + channel[None, :]
        known = (block < num_blocks)[:, None]
        total += tl.sum(tl.load(sums + row, mask=known, other=0).to(tl.float64), axis=0)
        row += CHANNELS
        squares += tl.sum(tl.load(sums + row, mask=known, other=0).to(tl.float64), axis=0)
    offset = total / count
    variance = tl.maximum(squares / square_count - offset * offset, 0)
    centre = tl.load(first_pixel + channel).to(tl.float64)
    factor = 1 / tl.sqrt((variance + epsilon).to(tl.float32))
    tl.store(scale + channel, factor)
    tl.store(shift + channel, -(centre + offset).to(tl.float32) * factor)


@triton.jit
def _pixels(start, y, x, width, channel, CHANNELS: tl.constexpr, known):
    """Load (N, C) float32 pixels of one image."""
    place = (y.to(tl.int64) * width + x)[:, None] * CHANNELS + channel[None, :]
    return tl.load(start + place, mask=known, other=0).to(tl.float32)


@triton.jit
def _doubled_pixels(start, y, x, height, width, channel, CHANNELS: tl.constexpr, known):
    """Load (N, C) float32 pixels of one image doubled bilinearly from ``height`` x ``width``."""
    near_y, near_x = y // 2, x // 2
    far_y = tl.minimum(tl.maximum(near_y - 1 + 2 * (y % 2), 0), height - 1)
    far_x = tl.minimum(tl.maximum(near_x - 1 + 2 * (x % 2), 0), width - 1)
    near = 0.75 * _pixels(start, near_y, near_x, width, channel, CHANNELS, known)
    near += 0.25 * _pixels(start, near_y, far_x, width, channel, CHANNELS, known)
    far = 0.75 * _pixels(start, far_y, near_x, width, channel, CHANNELS, known)
    far += 0.25 * _pixels(start, far_y, far_x, width, channel, CHANNELS, known)
    return 0.75 * near + 0.25 * far


@triton.jit
def _gated(value, channel, scale, shift, slope):
    """Normalise and gate (N, C) values."""
    value = value * tl.load(scale + channel)[None, :] + tl.load(shift + channel)[None, :]
    return tl.where(value > 0, value, value * tl.load(slope + channel)[None, :])


@triton.jit
def _gated_plain(
    plain, scale, shift, slope, image, y, x, height, width, known,
    SMALL_CHANNELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Return (N, C0) values of an image, and the (C0,) places of their channels."""
    row = image * (SMALL_CHANNELS + CHANNELS)
    channel = tl.arange(0, CHANNELS)
    start = plain + image * height * width * CHANNELS
    value = _pixels(start, y, x, width, channel, CHANNELS, known)
    channel += SMALL_CHANNELS
    return _gated(value, channel, scale + row, shift + row, slope), channel


@triton.jit
def _gated_smaller(
    smaller, scale, shift, slope, image, y, x, height, width, known,
    SMALL_CHANNELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Return (N, C1) values of an image whose map is doubled, and their (C1,) places."""
    row = image * (SMALL_CHANNELS + CHANNELS)
    height, width = height // 2, width // 2
    channel = tl.arange(0, SMALL_CHANNELS)
    start = smaller + image * height * width * SMALL_CHANNELS
    value = _doubled_pixels(start, y, x, height, width, channel, SMALL_CHANNELS, known)
    return _gated(value, channel, scale + row, shift + row, slope), channel


@triton.jit
def _gate_kernel(
    plain, smaller, scale, shift, slope, result, height, width,
    SMALL_CHANNELS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a convolution's input."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = (pixel < height * width)[:, None]
    y, x = pixel // width, pixel % width
    row = (image * height * width + pixel)[:, None] * (SMALL_CHANNELS + CHANNELS)
    if SMALL_CHANNELS > 0:
        value, channel = _gated_smaller(
            smaller, scale, shift, slope, image, y, x, height, width, known,
            SMALL_CHANNELS, CHANNELS,
        )  # fmt: skip
        tl.store(result + row + channel[None, :], value, mask=known)
    value, channel = _gated_plain(
        plain, scale, shift, slope, image, y, x, height, width, known, SMALL_CHANNELS, CHANNELS
    )
    tl.store(result + row + channel[None, :], value, mask=known)


@triton.jit
def _taps_kernel(
    plain, smaller, scale, shift, slope, taps, products, height, width,
    SMALL_CHANNELS: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr,
    TAPS_PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Multiply each pixel of a convolution's input with the taps of one output channel."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = (pixel < height * width)[:, None]
    y, x = pixel // width, pixel % width
    all_channels: tl.constexpr = SMALL_CHANNELS + CHANNELS
    tap = tl.arange(0, TAPS_PADDED)
    is_tap = (tap < TAPS)[None, :]
    taps += tap[None, :] * all_channels
    value, channel = _gated_smaller(
        smaller, scale, shift, slope, image, y, x, height, width, known, SMALL_CHANNELS, CHANNELS
    )
    weight = tl.load(taps + channel[:, None], mask=is_tap, other=0)
    product = _product(value, weight, plain.dtype.element_ty)
    value, channel = _gated_plain(
        plain, scale, shift, slope, image, y, x, height, width, known, SMALL_CHANNELS, CHANNELS
    )
    weight = tl.load(taps + channel[:, None], mask=is_tap, other=0)
    product += _product(value, weight, plain.dtype.element_ty)
    at = (image * TAPS + tap)[None, :] * height * width + pixel[:, None]
    tl.store(products + at, product, mask=known & is_tap)


@triton.jit
def _product(value, weight, dtype: tl.constexpr):
    """Multiply (N, C) values of maps of a type with (C, T) float32 weights, summed in float32."""
    if dtype == tl.float32:
        return tl.dot(value, weight, input_precision="tf32x3")
    # As a convolution would read the values; of the weights, what rounding leaves is added.
    value = value.to(dtype)
    rounded = weight.to(dtype)
    rest = (weight - rounded.to(tl.float32)).to(dtype)
    return tl.dot(value, rounded) + tl.dot(value, rest)


@triton.jit
def _sum_taps_kernel(
    products, heatmap, bias, height, width, KERNEL: tl.constexpr, BLOCK: tl.constexpr
):
    """Add up the products that fall on each pixel."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = pixel < height * width
    y, x = pixel // width, pixel % width
    total = tl.zeros((BLOCK,), tl.float32) + tl.load(bias)
    for i in range(KERNEL):
        from_y = y + KERNEL // 2 - i
        for j in tl.static_range(KERNEL):
            from_x = x + KERNEL // 2 - j
            inside = known & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
            plane = (image * KERNEL * KERNEL + i * KERNEL + j) * height * width
            total += tl.load(products + plane + from_y * width + from_x, mask=inside, other=0)
    tl.store(heatmap + image * height * width + pixel, total, mask=known)


@triton.jit
def _maxima_kernel(
    heatmap, found, threshold, height, width, RADIUS: tl.constexpr, BLOCK: tl.constexpr
):
    """Mark pixels that are greater than all others in the window around them."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y, x = pixel // width, pixel % width
    inner = (y >= RADIUS) & (y < height - RADIUS) & (x >= RADIUS) & (x < width - RADIUS)
    start = heatmap + image * height * width + pixel
    centre = tl.load(start, mask=inner, other=0)
    greatest = inner & (centre > threshold)
    for i in range(2 * RADIUS + 1):
        for j in range(2 * RADIUS + 1):
            other = tl.load(start + (i - RADIUS) * width + j - RADIUS, mask=inner, other=0)
            greatest &= (centre > other) | ((i == RADIUS) & (j == RADIUS))
    at = found + image * height * width + pixel
    tl.store(at, greatest.to(tl.int8), mask=pixel < height * width)


@triton.jit
def _refine_kernel(
    heatmap, places, result, count, height, width, TINY: tl.constexpr, BLOCK: tl.constexpr
):
    """Move maxima between the pixels, by the formulas of :func:`.keypoints.refine_keypoints`."""
    keypoint = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    known = keypoint < count
    heatmap += tl.load(places + 3 * keypoint, mask=known, other=0) * height * width
    y = tl.load(places + 3 * keypoint + 1, mask=known, other=0).to(tl.int32)
    x = tl.load(places + 3 * keypoint + 2, mask=known, other=0).to(tl.int32)
    left, right = tl.maximum(x - 1, 0), tl.minimum(x + 1, width - 1)
    above = heatmap + tl.maximum(y - 1, 0).to(tl.int64) * width
    here = heatmap + y.to(tl.int64) * width
    below = heatmap + tl.minimum(y + 1, height - 1).to(tl.int64) * width
    peak = tl.load(here + x, mask=known, other=0)
    w00 = tl.load(above + left, mask=known, other=0) - peak
    w01 = tl.load(above + x, mask=known, other=0) - peak
    w02 = tl.load(above + right, mask=known, other=0) - peak
    w10 = tl.load(here + left, mask=known, other=0) - peak
    w12 = tl.load(here + right, mask=known, other=0) - peak
    w20 = tl.load(below + left, mask=known, other=0) - peak
    w21 = tl.load(below + x, mask=known, other=0) - peak
    w22 = tl.load(below + right, mask=known, other=0) - peak

    before_x, middle_x, after_x = w00 + w10 + w20, w01 + w21, w02 + w12 + w22
    before_y, middle_y, after_y = w00 + w01 + w02, w10 + w12, w20 + w21 + w22
    slope_x, curvature_x = (after_x - before_x) / 6, (before_x - 2 * middle_x + after_x) / 3
    slope_y, curvature_y = (after_y - before_y) / 6, (before_y - 2 * middle_y + after_y) / 3
    mixed = (w00 + w22 - w02 - w20) / 4
    determinant = curvature_x * curvature_y - mixed * mixed
    inside_x, inside_y = (x > 0) & (x < width - 1), (y > 0) & (y < height - 1)
    peaked = inside_x & inside_y & (curvature_x < 0) & (curvature_y < 0) & (determinant > TINY)
    determinant = tl.where(peaked, determinant, 1)
    peak_x = (mixed * slope_y - curvature_y * slope_x) / determinant
    peak_y = (mixed * slope_x - curvature_x * slope_y) / determinant
    # Without a peak, a parabola along each axis.
    drop_x, drop_y = -(w10 + w12), -(w01 + w21)
    parabola_x = (w12 - w10) / (2 * tl.maximum(drop_x, TINY))
    parabola_y = (w21 - w01) / (2 * tl.maximum(drop_y, TINY))
    parabola_x = tl.where(inside_x & (drop_x > 0), parabola_x, 0)
    parabola_y = tl.where(inside_y & (drop_y > 0), parabola_y, 0)
    move_x = tl.where(peaked, peak_x, parabola_x)
    move_y = tl.where(peaked, peak_y, parabola_y)
    move_x = tl.minimum(tl.maximum(move_x, -0.5), 0.5)
    move_y = tl.minimum(tl.maximum(move_y, -0.5), 0.5)
    tl.store(result + 2 * keypoint, x + move_x, mask=known)
    tl.store(result + 2 * keypoint + 1, y + move_y, mask=known)


@triton.jit
def _patches_kernel(
    plain, smaller, scale, shift, slope, places, patches, height, width,
    SMALL_CHANNELS: tl.constexpr, CHANNELS: tl.constexpr, KERNEL: tl.constexpr,
    TAPS_PADDED: tl.constexpr,
):  # fmt: skip
    """Write what the convolution of one keypoint reads."""
    keypoint = tl.program_id(0).to(tl.int64)
    tap = tl.arange(0, TAPS_PADDED)
    image = tl.load(places + 3 * keypoint)
    y = tl.load(places + 3 * keypoint + 1).to(tl.int32) + tap // KERNEL - KERNEL // 2
    x = tl.load(places + 3 * keypoint + 2).to(tl.int32) + tap % KERNEL - KERNEL // 2
    exists = (tap < KERNEL * KERNEL)[:, None]
    inside = exists & ((x >= 0) & (x < width) & (y >= 0) & (y < height))[:, None]
    row = (keypoint * KERNEL * KERNEL + tap)[:, None] * (SMALL_CHANNELS + CHANNELS)
    # Of a pixel outside, the remainder of its place could be negative.
    within_y, within_x = tl.maximum(y, 0), tl.maximum(x, 0)
    value, channel = _gated_smaller(
        smaller, scale, shift, slope, image, within_y, within_x, height, width, inside,
        SMALL_CHANNELS, CHANNELS,
    )  # fmt: skip
    tl.store(patches + row + channel[None, :], tl.where(inside, value, 0), mask=exists)
    value, channel = _gated_plain(
        plain, scale, shift, slope, image, y, x, height, width, inside, SMALL_CHANNELS, CHANNELS
    )
    tl.store(patches + row + channel[None, :], tl.where(inside, value, 0), mask=exists)


class Summed(NamedTuple):
    """The sums of a map.

    Attributes:
        sums: (B, blocks, 2, C) float32, of values and of squares.
        relative_to: (B, H, W, C), the map whose first pixel they are relative to.
        num_values: pixels that were summed.
        num_squares: pixels whose squares were summed.
    """

    sums: Tensor
    relative_to: Tensor
    num_values: int
    num_squares: int


@_on_device_of_first
def halve(full: Tensor) -> tuple[Tensor, Summed, Summed]:
    """Average 2 x 2 pixels.

    Args:
        full: (B, H, W, C), H and W even, C a power of two.

    Returns:
        (B, H/2, W/2, C); the sums of ``full``, and those of the result.
    """
    batch, height, width, channels = full.shape
    pooled = full.new_empty(batch, height // 2, width // 2, channels)
    block, num_blocks = _blocks(height * width // 4, channels)
    sums = full.new_empty(2, batch, num_blocks, 2, channels, dtype=torch.float32)
    _pool_kernel[num_blocks, batch](
        full, pooled, sums[0], sums[1], height, width, num_blocks, CHANNELS=channels, BLOCK=block
    )
    count = height * width
    of_full = Summed(sums[0], full, count, count)
    return pooled, of_full, Summed(sums[1], full, count // 4, count // 4)


@_on_device_of_first
def doubled_sums(smaller: Tensor) -> Summed:
    """Return the sums of a (B, H, W, C) map that is doubled bilinearly."""
    batch, height, width, channels = smaller.shape
    block, num_blocks = _blocks(height * width, channels)
    sums = smaller.new_empty(batch, num_blocks, 2, channels, dtype=torch.float32)
    _doubled_sums_kernel[num_blocks, batch](
        smaller, sums, height, width, num_blocks, CHANNELS=channels, BLOCK=block
    )
    return Summed(sums, smaller, height * width, 4 * height * width)


@_on_device_of_first
def normalisation(first: Summed, second: Summed | None, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return what normalises the channels of one or two maps to mean 0 and variance 1.

    Args:
        first: of the channels that come first.
        second: of the others, with as many squares as values.
        epsilon: added to the variances.

    Returns:
        (B, C) float32 scale and shift.
    """
    batch, num_blocks, _, channels = first.sums.shape
    other = second or first
    other_channels = other.sums.shape[3]
    total = channels + (other_channels if second else 0)
    scale, shift = first.sums.new_empty(2, batch, total)
    _normalisation_kernel[batch, 2 if second else 1](
        first.sums, first.relative_to, first.relative_to.stride(0), num_blocks,
        float(first.num_values), float(first.num_squares),
        other.sums, other.relative_to, other.relative_to.stride(0), other.sums.shape[1],
        float(other.num_values), scale, shift, total, epsilon,
        CHANNELS=channels, OTHER_CHANNELS=other_channels, ROWS=64,
    )  # fmt: skip
    return scale, shift


@_on_device_of_first
def gate(
    plain: Tensor, smaller: Tensor | None, scale: Tensor, shift: Tensor, slope: Tensor
) -> Tensor:
    """Return a convolution's input; see :class:`disk_hloc.models.disk_network.unet.Gated`.

    Returns:
        (B, H, W, C1 + C0) of the maps' type.
    """
    batch, height, width, channels = plain.shape
    small_channels = 0 if smaller is None else smaller.shape[3]
    result = plain.new_empty(batch, height, width, small_channels + channels)
    block, num_blocks = _blocks(height * width, max(small_channels, channels))
    _gate_kernel[num_blocks, batch](
        plain, plain if smaller is None else smaller, scale, shift, slope, result, height, width,
        SMALL_CHANNELS=small_channels, CHANNELS=channels, BLOCK=block,
    )  # fmt: skip
    return result


@_on_device_of_first
def convolve_to_one(
    plain: Tensor,
    smaller: Tensor,
    scale: Tensor,
    shift: Tensor,
    slope: Tensor,
    taps: Tensor,
    bias: Tensor,
) -> Tensor:
    """Gate maps, and convolve them to one channel with zeros around the image.

    Args:
        plain, smaller, scale, shift, slope: see
            :class:`disk_hloc.models.disk_network.unet.Gated`.
        taps: (25, C1 + C0) float32, what a pixel contributes to the 25 pixels around it.
        bias: (1,) float32.

    Returns:
        (B, H, W) float32.
    """
    batch, height, width, channels = plain.shape
    heatmap = taps.new_empty(batch, height, width)
    at_once = max(1, min(batch, _PRODUCT_ELEMENTS // (_TAPS * height * width)))
    products = taps.new_empty(at_once, _TAPS, height, width)
    block, num_blocks = _blocks(height * width, smaller.shape[3])
    for start in range(0, batch, at_once):
        part = slice(start, min(start + at_once, batch))
        count = part.stop - part.start
        _taps_kernel[num_blocks, count](
            plain[part], smaller[part], scale[part], shift[part], slope, taps, products,
            height, width, SMALL_CHANNELS=smaller.shape[3], CHANNELS=channels, TAPS=_TAPS,
            TAPS_PADDED=_TAPS_PADDED, BLOCK=block,
        )  # fmt: skip
        _sum_taps_kernel[triton.cdiv(height * width, 256), count](
            products, heatmap[part], bias, height, width, KERNEL=_KERNEL, BLOCK=256
        )
    return heatmap


@_on_device_of_first
def strict_maxima(heatmap: Tensor, window_size: int, threshold: float) -> Tensor:
    """Mark the strict local maxima; see :func:`.keypoints.find_keypoints`.

    Args:
        heatmap: (B, H, W) float32.
        window_size: odd side of the window in pixels.
        threshold: a maximum is greater.

    Returns:
        (B, H, W) int8, 1 or 0.
    """
    batch, height, width = heatmap.shape
    found = torch.empty(heatmap.shape, dtype=torch.int8, device=heatmap.device)
    _maxima_kernel[triton.cdiv(height * width, 256), batch](
        heatmap, found, float(threshold), height, width, RADIUS=window_size // 2, BLOCK=256
    )
    return found


@_on_device_of_first
def refine(heatmaps: Tensor, places: Tensor) -> Tensor:
    """Move maxima between the pixels; see :func:`.keypoints.refine_keypoints`.

    Args:
        heatmaps: (B, H, W) float32.
        places: (N, 3) int64, the index of the image, y and x.

    Returns:
        (N, 2) float32 x and y.
    """
    result = heatmaps.new_empty(len(places), 2)
    if len(places):
        _refine_kernel[triton.cdiv(len(places), 128),](
            heatmaps, places, result, len(places), *heatmaps.shape[1:], TINY=_TINY, BLOCK=128
        )
    return result


@_on_device_of_first
def patches(
    plain: Tensor, smaller: Tensor, scale: Tensor, shift: Tensor, slope: Tensor, places: Tensor
) -> Tensor:
    """Gate the 5 x 5 pixels around keypoints, zero outside the image.

    Args:
        plain, smaller, scale, shift, slope: see
            :class:`disk_hloc.models.disk_network.unet.Gated`.
        places: (N, 3) int64, the index of the image, y and x.

    Returns:
        (N, 25 * (C1 + C0)) float32.
    """
    _, height, width, channels = plain.shape
    small_channels = smaller.shape[3]
    result = slope.new_empty(len(places), _TAPS * (small_channels + channels))
    if len(places):
        _patches_kernel[len(places),](
            plain, smaller, scale, shift, slope, places, result, height, width,
            SMALL_CHANNELS=small_channels, CHANNELS=channels, KERNEL=_KERNEL,
            TAPS_PADDED=_TAPS_PADDED,
        )  # fmt: skip
    return result


def _blocks(pixels: int, channels: int) -> tuple[int, Any]:
    """Return the pixels of a tile, and the number of tiles."""
    block = _TILE_ELEMENTS // channels
    return block, triton.cdiv(pixels, block)
