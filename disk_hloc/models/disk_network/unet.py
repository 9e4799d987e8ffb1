"""DISK's U-Net, arranged for inference.

The network is that of Tyszkiewicz, Fua, Trulls, "DISK", NeurIPS 2020, section 3 and appendix, in
kornia's form: each block normalises its input channel by channel, gates it (PReLU) and convolves
it. Here the same function is computed in another order:

* A block's deviation goes into its weights, since ``prelu(a x) = a prelu(x)`` for a > 0. A bias
  that is followed by a norm cancels and is left out.
* An upsampled map is never stored. Its mean is that of the smaller map, its deviation follows from
  that map in closed form, and its rows are computed on demand, in bands that stay in cache.
* The last convolution's heatmap channel is one matrix product of 25 taps a pixel, shifted and
  added; its 128 descriptor channels are computed at keypoints only.
* On a CPU in float32 the convolutions are Winograd's (:mod:`.winograd`). On a GPU the steps between
  convolutions are kernels of their own (:mod:`.fused`); what is here runs on all other devices.

Maps are (B, H, W, C): with channels last a pixel's channels are one row of a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import winograd
from .workspace import Workspace

KERNEL = winograd.KERNEL
BORDER = KERNEL // 2
DESCRIPTOR_DIM = 128
# kornia's name of a layer, its channels in and out; five lead down, four up again.
_LAYERS = (
    ("path_down.0.1", 3, 16),
    ("path_down.1.1", 16, 32),
    ("path_down.2.1", 32, 64),
    ("path_down.3.1", 64, 64),
    ("path_down.4.1", 64, 64),
    ("path_up.0.conv", 64 + 64, 64),
    ("path_up.1.conv", 64 + 64, 64),
    ("path_up.2.conv", 64 + 32, 64),
    ("path_up.3.conv", 64 + 16, DESCRIPTOR_DIM + 1),
)
DOWN = 5
# The U-Net halves its input four times.
STRIDE = 16
# Of a band of rows, 4 MB in float32: it and what is computed from it stay in the last-level cache.
BAND_ELEMENTS = 1 << 20
# Of the values that statistics are accumulated over at a time.
_CHUNK_ELEMENTS = 1 << 18
EPSILON = 1e-5  # torch's InstanceNorm2d
_DESCRIBED_AT_ONCE = 512
# With fewer channels, a Winograd tile's transforms take longer than they save.
_WINOGRAD_CHANNELS = 32
# The five rows of a doubled map around an even and an odd row, as weighted sums of the four rows of
# the smaller map around it (bilinear, align_corners=False).
_SHARES = (
    (
        (0.25, 0.75, 0, 0),
        (0, 0.75, 0.25, 0),
        (0, 0.25, 0.75, 0),
        (0, 0, 0.75, 0.25),
        (0, 0, 0.25, 0.75),
    ),
    (
        (0.75, 0.25, 0, 0),
        (0.25, 0.75, 0, 0),
        (0, 0.75, 0.25, 0),
        (0, 0.25, 0.75, 0),
        (0, 0, 0.75, 0.25),
    ),
)


class UNet(nn.Module):
    """DISK's U-Net up to its last convolution, and that convolution where it is asked for.

    Args:
        parameters: by kornia's names, ``unet.path_down.0.1.3.weight`` and so on.

    Raises:
        KeyError, RuntimeError: the parameters are of another network.
    """

    bias: Tensor
    taps: Tensor
    descriptor_weight: Tensor

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.workspace = Workspace()
        self._weights: dict[tuple[int, torch.dtype, torch.device, int], Tensor] = {}
        expected = set(parameters)
        self.last = len(_LAYERS) - 1
        for i, (name, channels, out_channels) in enumerate(_LAYERS):
            weight = parameters[f"unet.{name}.3.weight"]
            if weight.shape != (out_channels, channels, KERNEL, KERNEL):
                raise RuntimeError(f"unet.{name}.3.weight is of shape {tuple(weight.shape)}")
            self._keep(f"weight{i}", weight)
            expected -= {f"unet.{name}.3.weight", f"unet.{name}.3.bias"}
            if i > 0:
                self._keep(f"slope{i}", parameters[f"unet.{name}.1.weight"])
                expected -= {f"unet.{name}.1.weight"}
            if channels >= _WINOGRAD_CHANNELS and i != self.last:
                self._keep(f"points{i}", winograd.transform_weight(weight))
        last = parameters[f"unet.{_LAYERS[-1][0]}.3.weight"]
        self._keep("descriptor_weight", last[:DESCRIPTOR_DIM].permute(0, 2, 3, 1).flatten(1))
        # A pixel contributes to the 25 outputs around it, so the taps are the kernel reversed.
        self._keep("taps", last[DESCRIPTOR_DIM].flatten(1).flip(1).T.contiguous())
        self._keep("bias", parameters[f"unet.{_LAYERS[-1][0]}.3.bias"])
        if expected:
            raise RuntimeError(f"unexpected {', '.join(sorted(expected))}")

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float(), persistent=False)

    def forward(self, image: Tensor, dtype: torch.dtype) -> Gated:
        """Compute the input of the last convolution. It is valid until the next call.

        Args:
            image: (B, 3, H, W) float32, H and W multiples of 16.
            dtype: of the convolutions: float32, bfloat16 or float16.
        """
        pixels = image.permute(0, 2, 3, 1).to(dtype).contiguous()
        maps = [self._convolve(0, lambda start, stop: pixels[:, start:stop], pixels)]
        for i in range(1, DOWN):
            gated = Gated.of(self.get_buffer(f"slope{i}"), self._halve(i, maps[-1]))
            maps.append(self._convolve(i, gated.rows, gated.plain))
        bottom = maps.pop()
        for i in range(DOWN, self.last):
            gated = Gated.of(self.get_buffer(f"slope{i}"), maps.pop(), bottom)
            bottom = self._convolve(i, gated.rows, gated.plain)
        return Gated.of(self.get_buffer(f"slope{self.last}"), maps.pop(), bottom)

    def weight_of(self, i: int, dtype: torch.dtype, channels: int) -> Tensor:
        """Return the weight of layer ``i`` as convolutions take it.

        Args:
            i: the layer.
            dtype: of the convolution.
            channels: of its input, zeros beyond those of the layer.
        """
        weight = self.get_buffer(f"weight{i}")
        key = i, dtype, weight.device, channels
        if key not in self._weights:
            padded = F.pad(weight, (0, 0, 0, 0, 0, channels - weight.shape[1])).to(dtype)
            self._weights[key] = padded.contiguous(memory_format=torch.channels_last)
        return self._weights[key]

    def _convolve(self, i: int, rows: winograd.Rows, like: Tensor) -> Tensor:
        """Apply layer ``i`` to the ``rows`` of a map with the size of ``like``."""
        weight = self.get_buffer(f"weight{i}")
        out_channels, channels = weight.shape[:2]
        batch, height, width, _ = like.shape
        result = self.workspace.take(
            f"map {i}", batch, height, width, out_channels, dtype=like.dtype, device=like.device
        )
        single = like.dtype == torch.float32 and like.device.type == "cpu" and batch == 1
        if single and f"points{i}" in self._buffers:
            points = self.get_buffer(f"points{i}")
            winograd.convolve(lambda *part: rows(*part)[0], points, result[0], self.workspace)
            return result
        weight = self.weight_of(i, like.dtype, channels)
        for start, stop in bands(like, max(channels, out_channels)):
            first, last = start - BORDER, stop + BORDER
            band = rows(max(0, first), min(height, last)).to(like.dtype)
            outside = (max(0, -first), max(0, last - height))
            if any(outside):
                band = F.pad(band, (0, 0, 0, 0, *outside))
            convolved = F.conv2d(band.permute(0, 3, 1, 2), weight, padding=(0, BORDER))
            result[:, start:stop] = convolved.permute(0, 2, 3, 1)
        return result

    def _halve(self, i: int, full: Tensor) -> Tensor:
        """Average 2 x 2 pixels, for layer ``i``."""
        batch, height, width, channels = full.shape
        result = self.workspace.take(
            f"halved {i}", batch, height // 2, width // 2, channels,
            dtype=full.dtype, device=full.device,
        )  # fmt: skip
        for start, stop in bands(full, channels):
            pooled = F.avg_pool2d(full[:, start:stop].permute(0, 3, 1, 2), 2)
            result[:, start // 2 : stop // 2] = pooled.permute(0, 2, 3, 1)
        return result

    def heatmap(self, gated: Gated) -> Tensor:
        """Compute the (B, H, W) float32 logits of the last convolution's heatmap channel."""
        height, width = gated.size
        taps = self.taps
        heatmap = taps.new_zeros(len(gated), height + 2 * BORDER, width + 2 * BORDER)
        for start, stop in bands(gated.plain, taps.shape[1]):
            products = taps @ gated.rows(start, stop).float().flatten(1, 2).mT
            for tap, product in enumerate(products.unflatten(2, (-1, width)).unbind(dim=1)):
                top, left = start + tap // KERNEL, tap % KERNEL
                heatmap[:, top : top + stop - start, left : left + width] += product
        inner = heatmap[:, BORDER : BORDER + height, BORDER : BORDER + width]
        return inner + self.bias[DESCRIPTOR_DIM]

    def describe(self, gated: Gated, xy: Tensor) -> Tensor:
        """Compute descriptors of one image.

        Args:
            gated: of one image.
            xy: (N, 2) int64 x and y in pixels.

        Returns:
            (128, N) float32 of unit length.
        """
        # In blocks of one size: the order of summation in a matrix product depends on its size, and
        # the last bit of a descriptor must not depend on the number of keypoints.
        count = len(xy)
        blocks = F.pad(xy, (0, 0, 0, -count % _DESCRIBED_AT_ONCE)).split(_DESCRIBED_AT_ONCE)
        bias = self.bias[:DESCRIPTOR_DIM, None]
        described = [
            torch.addmm(bias, self.descriptor_weight, gated.patches(block).flatten(1).T)
            for block in blocks
        ]
        if not described:
            return bias.new_zeros(DESCRIPTOR_DIM, 0)
        return F.normalize(torch.cat(described, dim=1)[:, :count], dim=0)


@dataclass(frozen=True)
class Gated:
    """A convolution's input, normalised and gated maps, computed on demand.

    Attributes:
        plain: (B, H, W, C0), a map.
        smaller: (B, H/2, W/2, C1), a map that is doubled by bilinear interpolation, or None; its
            channels come before those of ``plain``.
        scale, shift: (B, C) float32, the normalisation of the C0 + C1 channels.
        slope: (C,) float32 of the gate.
    """

    plain: Tensor
    smaller: Tensor | None
    scale: Tensor
    shift: Tensor
    slope: Tensor

    @classmethod
    def of(cls, slope: Tensor, plain: Tensor, smaller: Tensor | None = None) -> Gated:
        """Compute the normalisation from the statistics of the maps."""
        mean, variance = _moments(plain)
        if smaller is not None:
            doubled_mean, doubled_variance = _doubled_moments(smaller)
            mean = torch.cat([doubled_mean, mean], dim=1)
            variance = torch.cat([doubled_variance, variance], dim=1)
        scale = (variance + EPSILON).rsqrt()
        return cls(plain, smaller, scale, -mean * scale, slope)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.plain)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.plain.shape[1], self.plain.shape[2]

    def __getitem__(self, index: int) -> Gated:
        """Return one image, as a batch of one."""
        one = slice(index, index + 1)
        smaller = None if self.smaller is None else self.smaller[one]
        return Gated(self.plain[one], smaller, self.scale[one], self.shift[one], self.slope)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (B, stop - start, W, C) rows; float32 on a CPU, else of the maps' dtype.

        ``start`` and ``stop`` must be even if a map is doubled.
        """
        plain = self.plain[:, start:stop]
        dtype = torch.float32 if plain.device.type == "cpu" else plain.dtype
        scale, shift = self.scale[:, None, None].to(dtype), self.shift[:, None, None].to(dtype)
        result = plain.new_empty(*plain.shape[:3], len(self.slope), dtype=dtype)
        split = 0
        if self.smaller is not None:
            split = self.smaller.shape[3]
            # Normalised before it is doubled: a quarter of the work, since the shares sum to one.
            first, last = max(0, start // 2 - 1), min(self.smaller.shape[1], stop // 2 + 1)
            normalised = torch.addcmul(
                shift[..., :split], self.smaller[:, first:last].to(dtype), scale[..., :split]
            )
            missing = (first - (start // 2 - 1), stop // 2 + 1 - last)
            if any(missing):
                edges = (normalised[:, :1], normalised[:, -1:])
                parts = (edges[0],) * missing[0] + (normalised,) + (edges[1],) * missing[1]
                normalised = torch.cat(parts, dim=1)
            _double(normalised, result[..., :split])
        torch.addcmul(
            shift[..., split:], plain.to(dtype), scale[..., split:], out=result[..., split:]
        )
        return F.prelu(result.permute(0, 3, 1, 2), self.slope.to(dtype)).permute(0, 2, 3, 1)

    def patches(self, xy: Tensor) -> Tensor:
        """Return (N, 5, 5, C) float32 around pixels ``xy`` (N, 2) of one image, zero outside it."""
        height, width = self.size
        around = torch.arange(-BORDER, BORDER + 1, device=xy.device)
        x, y = xy[:, :1] + around, xy[:, 1:] + around
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        index = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None]
        patches = self.plain[0].flatten(0, 1)[index].float()
        if self.smaller is not None:
            _, small_height, small_width, channels = self.smaller.shape
            shares = torch.tensor(_SHARES, device=xy.device)
            four = torch.arange(4, device=xy.device)
            x, y = ((xy[:, i : i + 1] - 3).div(2, rounding_mode="floor") + four for i in (0, 1))
            x, y = x.clamp(0, small_width - 1), y.clamp(0, small_height - 1)
            index = y[:, :, None] * small_width + x[:, None]
            values = self.smaller[0].flatten(0, 1)[index].float()
            values = shares[xy[:, 1] % 2] @ values.flatten(2)
            values = values.unflatten(2, (4, channels)).transpose(1, 2).flatten(2)
            values = (shares[xy[:, 0] % 2] @ values).unflatten(2, (KERNEL, channels))
            patches = torch.cat([values.transpose(1, 2), patches], dim=3)
        patches = torch.addcmul(self.shift[0], patches, self.scale[0]).flatten(0, 2)
        gated = F.prelu(patches, self.slope).unflatten(0, inside.shape)
        return gated if inside.all() else gated * inside[..., None]


def bands(like: Tensor, channels: int) -> list[tuple[int, int]]:
    """Return the first and last (exclusive) rows of bands that fit a cache, even numbers."""
    height, width = like.shape[1:3]
    rows = height
    if like.device.type == "cpu":
        rows = max(2, BAND_ELEMENTS // (width * channels) // 2 * 2)
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def _double(smaller: Tensor, result: Tensor) -> None:
    """Interpolate bilinearly (align_corners=False) to twice the size.

    Args:
        smaller: (B, h + 2, w, C), with one more row above and one below.
        result: (B, 2 h, 2 w, C) to write to.
    """
    tall = smaller.new_empty(len(smaller), result.shape[1], *smaller.shape[2:])
    inner = smaller[:, 1:-1]
    torch.lerp(inner, smaller[:, :-2], 0.25, out=tall[:, ::2])
    torch.lerp(inner, smaller[:, 2:], 0.25, out=tall[:, 1::2])
    torch.lerp(tall[:, :, 1:], tall[:, :, :-1], 0.25, out=result[:, :, 2::2])
    torch.lerp(tall[:, :, :-1], tall[:, :, 1:], 0.25, out=result[:, :, 1:-1:2])
    result[:, :, 0] = tall[:, :, 0]
    result[:, :, -1] = tall[:, :, -1]


def _moments(full: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of each channel, (B, C) float32."""
    if full.device.type != "cpu":
        variance, mean = torch.var_mean(full.float(), dim=(1, 2), correction=0)
        return mean, variance
    height, width, channels = full.shape[1:]
    means, variances = [], []
    for image in full.flatten(2):
        # Rows are summed first: long sums of few channels are several times as slow.
        chunks = image.split(_chunk_rows(full))
        # An approximate mean: squares of the differences keep their precision.
        shift = _over_row(chunks[0].float().mean(dim=0), channels) / width
        sums, squares = shift.new_zeros(2, width * channels)
        buffer = shift.new_empty(chunks[0].shape)
        for chunk in chunks:
            shifted = torch.sub(chunk, shift.repeat(width), out=buffer[: len(chunk)])
            sums += shifted.sum(dim=0)
            squares += shifted.square_().sum(dim=0)
        mean = _over_row(sums, channels) / (height * width)
        means.append(shift + mean)
        variances.append(_over_row(squares, channels) / (height * width) - mean.square())
    return torch.stack(means), torch.stack(variances)


def _doubled_moments(smaller: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of each channel, (B, C), of the map doubled bilinearly.

    The mean is the map's own. Along one axis the squares of the doubled map sum to <u, G u>, where
    G u is 5/4 u plus 3/8 of each neighbour; an end is its own neighbour. Along both axes that is
    <G_y u, G_x u>, since G is symmetric.
    """
    height, width, channels = smaller.shape[1:]
    rows = _chunk_rows(smaller)
    means, variances = [], []
    for image in smaller:
        sums = torch.zeros(width * channels, device=image.device)
        for chunk in image.flatten(1).split(rows):
            sums += chunk.sum(dim=0, dtype=torch.float32)
        mean = _over_row(sums, channels) / (height * width)
        squares = torch.zeros_like(sums)
        # Allocating memory for every chunk would take longer than the sums.
        framed = mean.new_empty(rows + 2, width, channels)
        buffers = mean.new_empty(3, rows, width, channels)
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            above, below = max(0, start - 1), min(height, stop + 1)
            u = framed[: stop - start + 2]
            torch.sub(image[above:below], mean, out=u[above - start + 1 : below - start + 1])
            if above == start:
                u[0] = u[1]
            if below == stop:
                u[-1] = u[-2]
            neighbours, along_y, along_x = buffers[:, : stop - start]
            torch.add(u[:-2], u[2:], out=neighbours)
            torch.lerp(u[1:-1], neighbours, 3 / 13, out=along_y)  # 8/13 of G_y u
            u = u[1:-1]
            torch.add(u[:, :-2], u[:, 2:], out=neighbours[:, 1:-1])
            # In a map of one column both neighbours are the column itself.
            for end, inner in ((0, min(1, width - 1)), (-1, max(-2, -width))):
                torch.add(u[:, end], u[:, inner], out=neighbours[:, end])
            torch.lerp(u, neighbours, 3 / 13, out=along_x)
            squares += along_y.mul_(along_x).flatten(1).sum(dim=0)
        means.append(mean)
        variances.append(_over_row(squares, channels) * ((13 / 8) ** 2 / (4 * height * width)))
    return torch.stack(means), torch.stack(variances)


def _chunk_rows(full: Tensor) -> int:
    height, width, channels = full.shape[1:]
    if full.device.type != "cpu":
        return height
    return max(1, min(height, _CHUNK_ELEMENTS // (width * channels)))


def _over_row(sums: Tensor, channels: int) -> Tensor:
    """Sum (W * C,) to (C,)."""
    return sums.unflatten(0, (-1, channels)).sum(dim=0)
