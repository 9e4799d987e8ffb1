"""Matches without a detector become keypoints and matches, by a matcher that knows the answer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import list_features, read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.store import reading
from disk_hloc.stages import dense

CONF = {
    "output": "none",
    "model": {"name": "kornia_loftr", "weights": "none", "max_keypoints": None},
    "preprocessing": {"grayscale": True, "resize_max": 64},
    "cell_size": 1,
}
PAIRS = [("a/x.png", "y.png"), ("y.png", "z.png"), ("a/x.png", "z.png")]


class Known:
    """All photos show the same: a match is at the same share of the sides in both."""

    calls = 0
    stride = 8

    @classmethod
    def identity(cls, conf):
        return dict(conf)

    def __init__(self, conf):
        self.device = torch.device("cpu")

    def to(self, device):
        return self

    def __call__(self, data):
        type(self).calls += 1
        assert all(data[f"image{i}"].shape[-1] % 8 == 0 for i in (0, 1))
        rng = np.random.default_rng(5)
        shares = torch.from_numpy(rng.uniform(0, 1, (60, 2)).astype(np.float32))
        sizes = [torch.tensor(data[f"image{i}"].shape[:1:-1]) for i in (0, 1)]
        keypoints = {f"keypoints{i}": shares * sizes[i] - 0.5 for i in (0, 1)}
        return {**keypoints, "scores": torch.linspace(0.3, 0.9, 60)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    for name, size in (("a/x.png", (128, 96)), ("y.png", (90, 130)), ("z.png", (64, 48))):
        cv2.imwrite(str(folder / name), np.full((size[1], size[0]), 90, np.uint8))
    (tmp_path / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in PAIRS))
    return tmp_path


@pytest.fixture(autouse=True)
def known(monkeypatch) -> type[Known]:
    monkeypatch.setattr(models, "load", lambda kind, name: Known)
    Known.calls = 0
    return Known


def run(folder: Path, conf=CONF, **options) -> None:
    dense.main(
        conf,
        folder / "pairs.txt",
        folder / "images",
        folder / "f.h5",
        folder / "m.h5",
        **options,
    )


def test_tracks_run_through_all_photos(photos: Path) -> None:
    run(photos)
    assert list_features(photos / "f.h5") == ["a/x.png", "y.png", "z.png"]
    sizes = {"a/x.png": (128, 96), "y.png": (90, 130), "z.png": (64, 48)}
    with reading(photos / "f.h5") as features, reading(photos / "m.h5") as matches:
        for pair in PAIRS:
            found = read_matches(matches, *pair)
            assert len(found) > 50
            shares = [
                (read_keypoints(features, name)[found[:, i]] + 0.5) / sizes[name]
                for i, name in enumerate(pair)
            ]
            # Ends in the same cell are up to a pixel apart.
            assert np.abs(shares[0] - shares[1]).max() < 1.5 / 48
        for name, size in sizes.items():
            assert tuple(features[name]["image_size"][()]) == size
            assert 50 < len(read_keypoints(features, name)) <= 60


def test_a_run_resumes_and_max_keypoints_may_change(photos: Path, known) -> None:
    run(photos)
    assert known.calls == 3
    run(photos, {**CONF, "model": {**CONF["model"], "max_keypoints": 20}})
    assert known.calls == 3
    with reading(photos / "f.h5") as features, reading(photos / "m.h5") as matches:
        assert len(read_keypoints(features, "y.png")) == 20
        assert len(read_matches(matches, *PAIRS[0])) <= 20
    with pytest.raises(DiskHlocError, match="another conf"):
        run(photos, {**CONF, "preprocessing": {"resize_max": 32}})
    run(photos, {**CONF, "preprocessing": {"resize_max": 32}}, overwrite=True)
    assert known.calls == 6


def test_what_was_matched_before_ctrl_c_is_kept(photos: Path, known, monkeypatch) -> None:
    whole = known.__call__

    def stopped(self, data):
        if known.calls == 2:
            raise KeyboardInterrupt
        return whole(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(known, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(photos)
    known.calls = 0
    run(photos)
    assert known.calls == 1


def test_merging_by_hand() -> None:
    ends = np.array([[0.0, 0.0], [0.4, 0.2], [3.0, 1.0], [0.6, 0.0]])
    scores = np.array([1.0, 3.0, 0.5, 1.0])
    keypoints, sums, of_end = dense.merge(ends, scores, 1, None)
    np.testing.assert_allclose(keypoints, [[0.3, 0.15], [0.6, 0.0], [3.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(sums, [4.0, 1.0, 0.5])
    assert of_end.tolist() == [0, 0, 2, 1]
    _, sums, of_end = dense.merge(ends, scores, 1, 2)
    assert sums.tolist() == [4.0, 1.0]
    assert of_end.tolist() == [0, 0, -1, 1]
    keypoints, _, of_end = dense.merge(np.zeros((0, 2)), np.zeros(0), 1, None)
    assert keypoints.shape == (0, 2)
    assert of_end.shape == (0,)


def test_each_keypoint_is_matched_once() -> None:
    ids0, ids1 = np.array([0, 0, 1, 2, -1]), np.array([5, 6, 5, 7, 8])
    matches0, scores0 = dense.unique_matches(ids0, ids1, np.array([0.4, 0.5, 0.9, 0.1, 1.0]), 4)
    assert matches0.tolist() == [6, 5, 7, -1]
    np.testing.assert_allclose(scores0, [0.5, 0.9, 0.1, 0])


def test_a_photo_that_cannot_be_read_is_named(photos: Path) -> None:
    (photos / "images" / "z.png").write_bytes(b"no image")
    with pytest.raises(DiskHlocError, match=r"z\.png cannot be read"):
        run(photos)
