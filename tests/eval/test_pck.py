"""Descriptors at corners with known correspondences: by hand, and of drawn photos."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import given_positions, pck
from disk_hloc.eval.homographies import write_scenes
from disk_hloc.eval.planes import transfer
from support.errors import one_line_error


def blobs(seed: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 with soft corners."""
    noise = np.random.default_rng(seed).uniform(0, 255, (size[1] // 6, size[0] // 6, 3))
    return cv2.resize(noise.astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("homographies")
    write_scenes(blobs(0, (160, 120)), path, "blobs", 80, np.random.default_rng(0))
    return path


def test_the_command(folder: Path, tmp_path: Path) -> None:
    arguments = [str(folder), "--methods=opencv-sift", f"--out={tmp_path}"]
    done = CliRunner().invoke(app, ["eval", "descriptors", *arguments])
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "results.json").read_text())
    figures = results["pck"]["opencv-sift"]
    assert 500 < results["positions"] <= 1000
    assert 0.3 < figures["3"]["illumination"] < 1
    assert 0.3 < figures["3"]["viewpoint"] < 1
    for kind, share in figures["3"].items():
        assert share < figures["5"][kind]
    assert "3 px" in (tmp_path / "results.md").read_text()
    assert done.output.count(f"{figures['3']['all']:.3f}") >= 1


def test_shares_by_hand(folder: Path) -> None:
    """A descriptor of the position itself: right where nothing moves, if it is unique."""

    def position(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
        lifted = np.column_stack([xy - 320, np.full(len(xy), 200)]).astype(np.float32)
        return (lifted / np.linalg.norm(lifted, axis=1, keepdims=True)).T

    def constant(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
        return np.ones((1, len(xy)), np.float32)

    pairs = pck.read_scenes(folder, without=())
    figures, _ = pck.evaluate(position, folder, pairs)
    assert figures["3"]["illumination"] == 1
    assert figures["3"]["viewpoint"] < 0.5
    assert pck.evaluate(constant, folder, pairs)[0]["5"]["all"] < 0.05


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), limit=st.integers(1, 400))
def test_positions_are_corners_that_both_photos_see(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    image = blobs(seed, (64, 48))
    matrix = np.eye(3) + rng.normal(0, 1, (3, 3)) * [[0.1, 0.1, 9], [0.1, 0.1, 9], [1e-3, 1e-3, 0]]
    xy0, xy1 = pck.corner_correspondences(image, (40, 70), matrix, rng, limit)
    assert len(xy0) == len(xy1) <= limit
    assert len(np.unique(xy0, axis=0)) == len(xy0)
    assert ((xy1 >= 0) & (xy1 < (70, 40))).all()
    assert np.abs(transfer(matrix, xy0) - xy1).max(initial=0) < 1
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    response = cv2.cornerHarris(gray.astype(np.float32), 2, 3, 0.04)
    strongest = np.sort(response.ravel())[-int(np.ceil(0.1 * response.size)) :]
    assert (response[xy0[:, 1], xy0[:, 0]] >= strongest[0]).all()


@pytest.mark.parametrize("name", list(given_positions.BASELINES))
def test_a_descriptor_belongs_to_its_position(name: str) -> None:
    """The whole image and a part of it give the same, far from the border; unit length."""
    if name == "skimage-daisy":
        pytest.importorskip("skimage")
    describe = given_positions.BASELINES[name]
    image = blobs(1, (120, 96))
    xy = np.array([[50, 46], [53, 50], [60, 47], [0, 0], [119, 95]])
    whole = describe(image, xy)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=0), 1, atol=1e-5)
    part = describe(image[2:94, 4:116], xy[:3] - (4, 2))
    # SIFT rounds to 8 bits.
    np.testing.assert_allclose(part, whole[:, :3], atol=0.02)
    assert (whole[:, 0] @ whole[:, 1]) < 0.95
    assert describe(image, np.zeros((0, 2), np.int64)).shape == (len(whole), 0)


def test_an_extractor_that_only_detects_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        pck.main(folder, tmp_path, ["sift"])
    assert one_line_error(error, "sift", "opencv-sift")
