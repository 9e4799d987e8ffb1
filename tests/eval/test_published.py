"""Published results on HPatches, read without running what they carry."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import published
from support.errors import one_line_error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("disk-imsize-1024-nms-3-nump-2048", [0.415, 0.753, 0.813]),
        ("PoSFeat_CVPR", [0.396, 0.764, 0.865]),
        ("superpoint", [0.339, 0.645, 0.729]),
    ],
)
def test_published_figures(data: Path, name: str, expected: list[float]) -> None:
    figures = published.read(data / "hpatches_published" / f"{name}.npy")
    assert figures["pairs"] == {"illumination": 260, "viewpoint": 280, "all": 540}
    np.testing.assert_allclose(np.array(figures["mma"]["all"])[[0, 2, 4]], expected, atol=6e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PoSFeat_CVPR", {"all": 0.775, "illumination": 0.826, "viewpoint": 0.728}),
        ("disk-imsize-1024-nms-3-nump-8000", {"all": 0.763}),
        ("disk-epipolar", {"all": 0.723}),
        ("superpoint", {"all": 0.658}),
    ],
)
def test_published_scores(data: Path, name: str, expected: dict[str, float]) -> None:
    """The MMAscore that PoSFeat's paper reports."""
    scores = published.read(data / "hpatches_published" / f"{name}.npy")["mma_score"]
    for kind, score in expected.items():
        assert scores[kind] == pytest.approx(score, abs=6e-4)


def cache(tmp_path: Path, content: Any, protocol: int = 2) -> Path:
    path = tmp_path / "cache.npy"
    array = np.empty(3, object)
    array[:] = content
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_cache_by_hand(tmp_path: Path, protocol: int) -> None:
    """One pair of changing light and three of viewpoint."""
    light = {np.int64(t): np.float64(0.05 * t) for t in range(1, 16)}
    view = {t: 0.2 * t for t in range(1, 16)}
    statistics = [np.array(["i", "v", "v", "v"]), np.array([100, 300]), np.array([10, 20, 30, 40])]
    figures = published.read(cache(tmp_path, [light, view, statistics], protocol))
    assert figures["keypoints"] == 200
    assert figures["matches"] == 25
    assert figures["mma"]["illumination"][9] == pytest.approx(0.5)
    assert figures["mma"]["viewpoint"][9] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["mma"]["all"][9] == pytest.approx(2.5 / 4)


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    "call", [(os.system, "touch pwned"), (eval, "open('pwned', 'w')"), (np.load, "pwned")]
)
def test_a_cache_that_carries_code_is_refused(tmp_path: Path, monkeypatch, call) -> None:
    monkeypatch.chdir(tmp_path)
    path = cache(tmp_path, [Evil(*call), {}, []])
    with pytest.raises(DiskHlocError) as error:
        published.read(path)
    assert one_line_error(error, path, "not trusted")
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_cache(tmp_path: Path) -> None:
    missing = tmp_path / "missing.npy"
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"no array")
    plain = tmp_path / "plain.npy"
    np.save(plain, np.arange(3))
    for path in (missing, broken, plain, cache(tmp_path, [1, 2, 3])):
        with pytest.raises(DiskHlocError) as error:
            published.read(path)
        assert one_line_error(error, path)
