"""MSNet against numbers of its published code, and what differs from it by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.models.extractors.msnet import MSNet
from disk_hloc.models.msnet_network import MSNetNetwork
from disk_hloc.weights import renamed
from support.errors import one_line_error
from support.random_weights import random_image, random_weights

PUBLISHED_NAMES = {
    "trunk.conv1.": "desc_extractor.backbone.model.0.",
    "trunk.bn1.": "desc_extractor.backbone.model.1.",
    "trunk.layer1.": "desc_extractor.backbone.model.4.",
    "trunk.layer2.": "desc_extractor.backbone.model.5.",
    "regress.": "desc_extractor.regress.",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the published code writes it."""
    path = tmp_path_factory.mktemp("msnet") / "1000.pth"
    with torch.device("meta"):
        like = renamed(MSNetNetwork().state_dict(), PUBLISHED_NAMES)
    parameters = {f"module.{name}": value for name, value in random_weights(like).items()}
    torch.save({"model": parameters, "epoch": 2, "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return random_image(50, 71)


@torch.inference_mode()
def test_descriptors_are_those_of_the_published_code(checkpoint, image) -> None:
    model = MSNet({"weights": str(checkpoint), "release": True})
    dense = model.net(image)
    assert dense.shape == (1, 128, 13, 18)
    expected = torch.tensor([0.0076540, 0.0079062, -0.0517719, 0.0206164])
    torch.testing.assert_close(dense[0, :4, 3, 5], expected, rtol=0, atol=1e-5)
    xy = torch.tensor([[0.0, 0.0], [33.5, 20.25], [70.0, 49.0]])
    expected = torch.tensor(
        [
            [-0.0655229, 0.1311679, 0.0814603, 0.1528001],
            [-0.0454888, 0.0837976, 0.0126811, 0.0538645],
            [-0.0810607, 0.1297937, -0.0315887, 0.0133269],
        ]
    )
    torch.testing.assert_close(model.describe(image, xy)[:4].T, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_by_default_a_cell_is_described_at_its_centre(checkpoint, image) -> None:
    """Up to the right and the bottom, where the published sampling is a cell off."""
    model = MSNet({"weights": str(checkpoint)})
    cells = torch.tensor([[0.0, 0.0], [68.0, 48.0], [20.0, 12.0]])
    expected = model.net(image)[0][:, [0, 12, 3], [0, 17, 5]]
    torch.testing.assert_close(model.describe(image, cells), expected, rtol=0, atol=1e-5)
    released = MSNet({"weights": str(checkpoint), "release": True}).describe(image, cells)
    torch.testing.assert_close(released[:, 0], expected[:, 0], rtol=0, atol=1e-5)
    assert (released[:, 1] - expected[:, 1]).abs().max() > 1e-3


@torch.inference_mode()
def test_disks_keypoints_are_described(checkpoint, image) -> None:
    found = MSNet({"weights": str(checkpoint), "keypoints": "disk"})({"image": image})
    of_disk = DISK({"max_keypoints": None})({"image": image})["keypoints"][0]
    assert {tuple(xy) for xy in found["keypoints"][0].tolist()} == {
        tuple(xy) for xy in of_disk.tolist()
    }
    norms = found["descriptors"][0].norm(dim=0)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("size", [(1, 1), (9, 40)])
@torch.inference_mode()
def test_small_and_gray_images(checkpoint, size) -> None:
    for release in (False, True):
        model = MSNet({"weights": str(checkpoint), "release": release})
        found = model({"image": torch.rand(1, 1, *size)})
        assert found["descriptors"][0].shape == (128, len(found["keypoints"][0]))
        assert model.describe(torch.rand(1, 3, *size), torch.zeros(1, 2)).isfinite().all()


def test_a_file_of_ours_is_read_as_the_published_one_is(checkpoint, tmp_path) -> None:
    model = MSNet({"weights": str(checkpoint)})
    torch.save({"extractor": model.net.state_dict()}, tmp_path / "save-3.pth")
    again = MSNet({"weights": str(tmp_path / "save-3.pth")})
    for name, value in again.net.state_dict().items():
        assert torch.equal(value, model.net.state_dict()[name])


def test_weights_that_are_missing_or_of_another_network(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DISK_HLOC_WEIGHTS", str(tmp_path))
    with pytest.raises(DiskHlocError) as error:
        MSNet()
    assert one_line_error(error, "MSNet needs", "no weights", "train", "msnet.pth")
    with pytest.raises(DiskHlocError, match="not a checkpoint of MSNet"):
        MSNet({"weights": "depth"})
