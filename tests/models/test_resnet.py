"""The trunk: its strides and cells, and which files fit it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.resnet import ResNet, depth_of, load_imagenet, normalized
from support.errors import one_line_error
from support.random_weights import random_weights


def full_file(depth: int, path: Path) -> dict[str, torch.Tensor]:
    """Write a file with all that torchvision's has."""
    parameters = random_weights(ResNet(depth).state_dict())
    torch.save({**parameters, "fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}, path)
    return parameters


def test_a_whole_imagenet_file_fits_a_trunk_of_fewer_stages(tmp_path) -> None:
    parameters = full_file(18, tmp_path / "resnet18.pth")
    trunk = ResNet(18, (1, 2))
    load_imagenet(trunk, tmp_path / "resnet18.pth")
    for name, value in trunk.state_dict().items():
        torch.testing.assert_close(value, parameters[name], rtol=0, atol=0)


def test_a_file_of_another_depth_or_network_is_refused(tmp_path) -> None:
    """All parameters of ResNet-18 are in a file of ResNet-34, with the same shapes."""
    full_file(34, tmp_path / "resnet34.pth")
    with pytest.raises(DiskHlocError) as error:
        load_imagenet(ResNet(18), tmp_path / "resnet34.pth")
    assert one_line_error(error, "resnet34.pth", "another network than ResNet-18", "depth")
    with pytest.raises(DiskHlocError, match="not a checkpoint of a ResNet"):
        load_imagenet(ResNet(18), "depth")


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_the_depth_is_read_off_the_names(depth) -> None:
    with torch.device("meta"):
        names = ResNet(depth, (1, 2, 2)).state_dict()
    assert depth_of(names, 3) == depth
    with pytest.raises(KeyError, match="blocks has none of the depths"):
        depth_of([*names, "layer3.22.conv1.weight"], 3)


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(2, 1, 3), (1, 2, 6)])
def test_cells_are_centred_on_multiples_of_the_stride(stride, dilation, padding) -> None:
    """Mirrored in an image's middle pixel, a map of symmetric kernels is mirrored in its cell."""
    trunk = ResNet(
        18, (1, 2), stem_stride=stride, stem_dilation=dilation, stem_padding=padding
    ).eval()
    for parameter in trunk.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data + parameter.data.flip(3)
    side = 8 * 2 * stride + 1
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, mirrored = trunk(image), trunk(image.flip(3))
    for one, other, cells in zip(maps, mirrored, (9, 9, 5), strict=True):
        assert one.shape[3] == cells
        torch.testing.assert_close(one, other.flip(3), rtol=1e-3, atol=1e-3)


def test_an_image_with_imagenets_statistics_is_centred() -> None:
    image = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(-1, -1, 2, 2)
    torch.testing.assert_close(normalized(image), torch.zeros(1, 3, 2, 2))
    gray = normalized(torch.full((1, 1, 2, 2), 0.5))
    torch.testing.assert_close(gray, normalized(torch.full((1, 3, 2, 2), 0.5)))
