"""LoFTR's wrapping, with weights at random: no package carries trained ones."""

from __future__ import annotations

from pathlib import Path

import kornia.feature
import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.dense.kornia_loftr import LoFTR
from support.errors import one_line_error


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("loftr") / "loftr_outdoor.ckpt"
    torch.save({"state_dict": kornia.feature.LoFTR(None).state_dict()}, path)
    return path


@torch.inference_mode()
def test_keypoints_are_kornias_half_a_pixel_on(checkpoint: Path) -> None:
    model = LoFTR({"weights": str(checkpoint), "match_threshold": 0.0})
    images = {f"image{i}": torch.rand(1, 1, 64, 96) for i in (0, 1)}
    got = model(images)
    expected = model.net(images)
    assert len(got["scores"]) > 0
    for i in (0, 1):
        torch.testing.assert_close(got[f"keypoints{i}"] + 0.5, expected[f"keypoints{i}"])
    torch.testing.assert_close(got["scores"], expected["confidence"])


@torch.inference_mode()
def test_the_threshold_is_taken(checkpoint: Path) -> None:
    model = LoFTR({"weights": str(checkpoint), "match_threshold": 0.999})
    images = {f"image{i}": torch.rand(1, 1, 64, 64) for i in (0, 1)}
    assert model(images)["keypoints0"].shape == (0, 2)


def test_the_file_is_found_in_the_users_folder(checkpoint: Path, monkeypatch) -> None:
    for place in (checkpoint, checkpoint.parent):
        monkeypatch.setenv("DISK_HLOC_WEIGHTS", str(place))
        LoFTR()


def test_without_a_file_the_way_out_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.delenv("DISK_HLOC_WEIGHTS", raising=False)
    with pytest.raises(DiskHlocError) as error:
        LoFTR()
    assert one_line_error(error, "needs a weights file", "loftr_outdoor.ckpt", "DISK_HLOC_WEIGHTS")
    with pytest.raises(DiskHlocError) as error:
        LoFTR({"weights": str(tmp_path / "mine.ckpt")})
    assert one_line_error(error, tmp_path / "mine.ckpt", "https://")


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(DiskHlocError, match="another network than LoFTR"):
        LoFTR({"weights": str(tmp_path / "other.ckpt")})
    torch.save({"a": torch.zeros(1)}, tmp_path / "flat.ckpt")
    with pytest.raises(DiskHlocError, match="no 'state_dict'"):
        LoFTR({"weights": str(tmp_path / "flat.ckpt")})
