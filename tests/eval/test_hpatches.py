"""HPatches: metrics worked out by hand and against other libraries, and the published results."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import kornia.geometry as kornia_geometry
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from disk_hloc.cli.main import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import descriptors, homographies, hpatches, published
from disk_hloc.io.hloc.features import list_features
from disk_hloc.pipelines import hpatches as pipeline
from support.errors import one_line_error
from support.hloc_files import write_features, write_matches

SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])
TILT = np.array([[1.1, 0.1, -20], [-0.05, 0.9, 12], [2e-4, -1e-4, 1]])
SIZE = (200, 100)


@pytest.fixture(scope="module")
def warped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of a photo of each of two places, 320 px wide."""
    folder = tmp_path_factory.mktemp("warped")
    photos = folder / "photos"
    photos.mkdir()
    for place in ("sacre_coeur", "fountain_p11"):
        photo = sorted((data / place / "images").glob("*.jpg"))[0]
        shutil.copyfile(photo, photos / f"{place}.jpg")
    return homographies.main(photos, folder / "hpatches", size=320)


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([0, 0], SIZE, (count, 2))


# matching accuracy


def test_matching_accuracy_by_hand() -> None:
    """Off by 0, 1, 2.5 and 30 px."""
    found = hpatches.matching_accuracy(
        np.zeros((4, 2)), np.array([[10, 0], [10, 1], [12.5, 0], [10, 30]]), SHIFT
    )
    np.testing.assert_allclose(found, [0.5, 0.5, *[0.75] * 8])
    none = hpatches.matching_accuracy(np.zeros((0, 2)), np.zeros((0, 2)), SHIFT)
    np.testing.assert_array_equal(none, np.zeros(10))


def test_matching_accuracy_against_kornia() -> None:
    points0 = points(500)
    points1 = hpatches.transfer(TILT, points0) + np.random.default_rng(1).normal(0, 4, (500, 2))
    errors = kornia_geometry.homography.oneway_transfer_error(
        torch.from_numpy(points0)[None], torch.from_numpy(points1)[None],
        torch.from_numpy(TILT)[None], squared=False,
    )[0].numpy()  # fmt: skip
    expected = [(errors <= threshold).mean() for threshold in range(1, 11)]
    found = hpatches.matching_accuracy(points0, points1, TILT)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert 0.01 < found[0] < found[9] < 0.99


def test_transfer_against_opencv_whatever_the_scale() -> None:
    expected = cv2.perspectiveTransform(points(50)[None], TILT)[0]
    np.testing.assert_allclose(hpatches.transfer(TILT, points(50)), expected, atol=1e-9)
    np.testing.assert_allclose(hpatches.transfer(-3 * TILT, points(50)), expected, atol=1e-9)


def test_a_point_beyond_the_horizon_is_nowhere() -> None:
    steep = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    found = hpatches.transfer(steep, np.array([[50.0, 1], [100, 1], [150, 1]]))
    np.testing.assert_allclose(found, [[100, 2], [np.inf, np.inf], [np.inf, np.inf]])


# homography


def test_corner_error_by_hand() -> None:
    """Matches that are all shifted by (3, 4) from the truth."""
    points0 = points(30)
    points1 = points0 + np.array([13, 4])
    assert hpatches.corner_error(points0, points1, SHIFT, SIZE) == pytest.approx(5, abs=1e-6)
    assert hpatches.corner_error(points0[:3], points1[:3], SHIFT, SIZE) == np.inf
    # Twice as large: corners off by 0, 199, hypot(199, 99) and 99.
    twice = np.diag([2.0, 2, 1])
    expected = np.mean([0, 199, np.hypot(199, 99), 99])
    found = hpatches.corner_error(points0, 2 * points0, np.eye(3), SIZE)
    assert found == pytest.approx(expected, rel=1e-6)
    assert hpatches.corner_error(points0, 2 * points0, twice, SIZE) == pytest.approx(0, abs=1e-6)


def test_corner_error_against_poselib() -> None:
    poselib = pytest.importorskip("poselib")
    points0 = points(400)
    points1 = hpatches.transfer(TILT, points0) + np.random.default_rng(1).normal(0, 0.3, (400, 2))
    points1[:150] = points(150, seed=2)
    theirs, _ = poselib.estimate_homography(points0, points1, {"max_reproj_error": 3.0}, {})
    corners = np.array([[0.0, 0], [199, 0], [199, 99], [0, 99]])
    moved = [cv2.perspectiveTransform(corners[None], matrix)[0] for matrix in (theirs, TILT)]
    expected = np.linalg.norm(moved[0] - moved[1], axis=1).mean()
    found = hpatches.corner_error(points0, points1, TILT, SIZE)
    assert found < 0.3
    assert found == pytest.approx(expected, abs=0.15)


# repeatability


def test_repeatability_by_hand() -> None:
    """Shifted by 10: of three, one leaves the view; of four, one comes from outside."""
    first = np.array([[0.0, 50], [100, 50], [195, 50]])
    second = np.array([[10.0, 53], [110, 60], [5, 50], [60, 20]])
    # Seen: 2 and 3 (x = 5 comes from x = -5). Found within 3 px: one of each.
    assert hpatches.repeatability(first, second, SHIFT, SIZE, SIZE) == pytest.approx(2 / 5)
    far = np.array([[199.0, 50]])
    assert np.isnan(hpatches.repeatability(far, np.zeros((0, 2)), SHIFT, SIZE, SIZE))


def test_repeatability_against_opencvs_matcher() -> None:
    first, second = points(300), hpatches.transfer(TILT, points(400, seed=3))
    found = seen = 0
    for source, target, matrix in ((first, second, TILT), (second, first, np.linalg.inv(TILT))):
        moved = cv2.perspectiveTransform(source[None], matrix)[0]
        moved = np.array([p for p in moved if -0.5 <= p[0] < 199.5 and -0.5 <= p[1] < 99.5])
        nearest = cv2.BFMatcher().match(moved.astype(np.float32), target.astype(np.float32))
        seen += len(moved)
        found += sum(match.distance <= 3 for match in nearest)
    value = hpatches.repeatability(first, second, TILT, SIZE, SIZE)
    assert value == pytest.approx(found / seen, abs=1e-9)
    assert 0.1 < value < 0.9


# descriptors


def test_share_correct_by_hand() -> None:
    """Of four, two are their own nearest, one takes its neighbour, one a position far off."""
    descriptors1 = np.eye(4)
    descriptors0 = np.eye(4)[:, [0, 0, 2, 0]]
    positions = np.array([[0.0, 0], [3, 4], [50, 50], [90, 90]])
    found = descriptors.share_correct(descriptors0, descriptors1, positions)
    assert found == pytest.approx(3 / 4)
    assert descriptors.share_correct(
        descriptors0, descriptors1, positions, within=4.9
    ) == pytest.approx(2 / 4)
    assert np.isnan(descriptors.share_correct(np.zeros((4, 0)), np.zeros((4, 0)), np.zeros((0, 2))))


def test_share_correct_against_opencvs_matcher() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(8, 300)).astype(np.float32)
    second = first + rng.normal(0, 0.7, size=(8, 300)).astype(np.float32)
    first, second = (one / np.linalg.norm(one, axis=0) for one in (first, second))
    positions = points(300)
    matches = cv2.BFMatcher().match(first.T.copy(), second.T.copy())
    off = [np.linalg.norm(positions[m.trainIdx] - positions[m.queryIdx]) for m in matches]
    found = descriptors.share_correct(first, second, positions)
    assert found == pytest.approx((np.array(off) <= 5).mean())
    assert 0.1 < found < 0.9


# published results


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


# the whole


def test_caches_alone(data: Path, tmp_path: Path) -> None:
    names = ("disk-imsize-1024-nms-3-nump-2048", "PoSFeat_CVPR")
    arguments = [f"--cache={data / 'hpatches_published' / name}.npy" for name in names]
    done = CliRunner().invoke(app, ["eval", "hpatches", "--out", str(tmp_path), *arguments])
    assert done.exit_code == 0, done.output
    assert "0.415/0.753/0.813" in done.output
    assert "0.396/0.764/0.865" in done.output
    assert set(json.loads((tmp_path / "results.json").read_text())["methods"]) == set(names)
    assert "0.415/0.753/0.813" in (tmp_path / "results.md").read_text()
    pytest.importorskip("matplotlib")
    assert cv2.imread(str(tmp_path / "results.png")) is not None
    assert "<svg" in (tmp_path / "results.svg").read_text()


def test_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="--cache"):
        pipeline.main(None, tmp_path)


def test_photos_to_figures_and_again_from_what_is_kept(warped: Path, tmp_path: Path) -> None:
    figures = pipeline.main(warped, tmp_path)["methods"]["disk-2k+disk"]
    assert figures["pairs"] == {"illumination": 10, "viewpoint": 10, "all": 20}
    assert figures["mma"]["all"][2] > 0.9
    assert figures["mma"]["illumination"][0] > figures["mma"]["viewpoint"][0] > 0.5
    assert figures["homography_auc"]["all"]["5"] > 0.8
    assert 0.5 < figures["repeatability"]["all"] < 1
    assert 0.5 < figures["descriptor_pck"]["all"] < 1
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "predictions").glob("*.h5")}
    assert len(kept) == 3
    assert len(list_features(tmp_path / "predictions" / "disk-2k.h5")) == 24
    again = pipeline.main(
        warped,
        tmp_path / "again",
        features=tmp_path / "predictions" / "disk-2k.h5",
        matches=tmp_path / "predictions" / "disk-2k+disk.h5",
    )
    figures.pop("descriptor_pck")
    assert again["methods"]["disk-2k+disk"] == figures


def test_figures_of_any_features_by_hand(tmp_path: Path) -> None:
    """A scene of each kind, each pair with a right match and one that is 6 px off."""
    truth = {
        (f"{scene}/1.ppm", f"{scene}/{number}.ppm"): SHIFT
        for scene in ("i_a", "v_a")
        for number in hpatches.NUMBERS
    }
    features, matches = tmp_path / "f.h5", tmp_path / "m.h5"
    for name in {name for pair in truth for name in pair}:
        first = name.endswith("1.ppm")
        keypoints = np.array([[20.0, 20], [50, 50]] if first else [[60, 56], [30, 20]], np.float32)
        data = {"keypoints": keypoints, "image_size": np.array(SIZE)}
        write_features(features, name, data, 1.0)
    pairs = list(truth)
    for pair in pairs[:5]:
        write_matches(matches, pair, np.array([1, 0]), np.ones(2))
    with pytest.raises(DiskHlocError) as error:
        hpatches.evaluate(features, matches, truth)
    assert one_line_error(error, matches, "5 pairs", "v_a/1.ppm v_a/2.ppm")
    for pair in pairs[5:]:
        # The other way around, and without the wrong one.
        write_matches(matches, pair[::-1], np.array([-1, 0]), np.ones(2))
    figures = hpatches.evaluate(features, matches, truth)
    assert figures["keypoints"] == 2
    assert figures["matches"] == 1.5
    assert figures["mma"]["illumination"] == [0.5] * 5 + [1] * 5
    assert figures["mma"]["viewpoint"] == [1] * 10
    assert figures["mma"]["all"] == [0.75] * 5 + [1] * 5
    assert figures["homography_auc"]["all"] == {"1": 0, "3": 0, "5": 0}
    assert figures["repeatability"]["all"] == 0.5


# the data set


def test_a_made_data_set_is_what_its_homographies_say(warped: Path) -> None:
    truth = hpatches.read_scenes(warped)
    assert len(truth) == 20
    for pair, homography in truth.items():
        first, other = (cv2.imread(str(warped / name)) for name in pair)
        assert first.shape == other.shape
        assert max(first.shape) == 320
        if pair[0].startswith("i_"):
            np.testing.assert_array_equal(homography, np.eye(3))
            assert abs(first.astype(float) - other).mean() > 2
            continue
        assert not np.allclose(homography, np.eye(3), atol=1e-2)
        height, width = first.shape[:2]
        moved = cv2.warpPerspective(first, homography, (width, height))
        seen = cv2.warpPerspective(np.ones((height, width)), homography, (width, height)) == 1
        assert seen.mean() > 0.3
        # It is the same photo where both show it, but for what interpolation loses.
        off = abs(moved.astype(float) - other)[seen].mean()
        shifted = abs(np.roll(moved, 3, axis=1).astype(float) - other)[seen].mean()
        assert off < 4
        assert off < shifted / 2


def test_scenes_left_out_and_broken_ones(warped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hpatches"
    shutil.copytree(warped, folder)
    (folder / "v_sacre_coeur").rename(folder / "v_talent")
    assert {kind for kind, _, _ in (p[0].partition("_") for p in hpatches.read_scenes(folder))} == {
        "i",
        "v",
    }
    assert len(hpatches.read_scenes(folder)) == 15
    (folder / "i_sacre_coeur" / "H_1_3").write_text("1 0 0\n0 1 0\n")
    with pytest.raises(DiskHlocError) as error:
        hpatches.read_scenes(folder)
    assert one_line_error(error, "H_1_3", "9 numbers")
    (folder / "i_sacre_coeur" / "4.ppm").unlink()
    with pytest.raises(DiskHlocError) as error:
        hpatches.read_scenes(folder)
    assert one_line_error(error, folder, "i_sacre_coeur/4.ppm")
    with pytest.raises(DiskHlocError, match="has no scene"):
        hpatches.read_scenes(tmp_path)


def test_the_same_data_set_again(data: Path, tmp_path: Path) -> None:
    photos = str(data / "fountain_p11" / "images")
    for name in ("a", "b"):
        arguments = ["eval", "make-homographies", photos, str(tmp_path / name), "--limit", "1"]
        done = CliRunner().invoke(app, [*arguments, "--size", "128"])
        assert done.exit_code == 0, done.output
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 12
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
