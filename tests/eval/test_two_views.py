"""Calibrated pairs from files to figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from disk_hloc import confs
from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import estimators, stereo, two_views
from disk_hloc.io.benchmarks.calibrated_pairs import CalibratedPair, read_calibrated_pairs
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.stages import extract, match
from support.errors import one_line_error
from support.hloc_files import write_features, write_matches

K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
TURN = np.array([[0.96, 0, 0.28], [0, 1, 0], [-0.28, 0, 0.96]])
SHIFT = np.array([-1.2, 0.1, 0.3])


def line(name0: str, name1: str, k: np.ndarray = K, turn: np.ndarray = TURN) -> str:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = turn, SHIFT
    values = np.concatenate([k.ravel(), k.ravel(), transform.ravel()])
    return f"{name0} {name1} 0 1 {' '.join(map(repr, values.tolist()))}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Features, matches and three pairs: one that is matched well, one empty, one not matched."""
    rng = np.random.default_rng(0)
    world = rng.uniform([-2, -2, 4], [2, 2, 8], (200, 3))
    features, matches, pairs = (tmp_path / name for name in ("f.h5", "m.h5", "pairs.txt"))
    for name, points in (("a.jpg", world), ("b.jpg", world @ TURN.T + SHIFT), ("c.jpg", world)):
        pixels = points @ K.T
        keypoints = (pixels[:, :2] / pixels[:, 2:]).astype(np.float32)
        write_features(features, name, {"keypoints": keypoints, "image_size": np.ones(2)}, 1.0)
    write_matches(matches, ("b.jpg", "a.jpg"), np.arange(200), np.ones(200))
    write_matches(matches, ("a.jpg", "c.jpg"), np.full(200, -1), np.ones(200))
    pairs.write_text("".join(line(*p) for p in (("a.jpg", "b.jpg"), ("a.jpg", "c.jpg"))))
    with pairs.open("a") as file:
        file.write("\n" + line("b.jpg", "c.jpg"))
    return features, matches, pairs


def test_a_line_of_superglues_list(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(line("x/a.jpg", "x/b.jpg"))
    (pair,) = read_calibrated_pairs(path)
    assert pair.names == ("x/a.jpg", "x/b.jpg")
    for camera in (pair.camera0, pair.camera1):
        # From the centre of the first pixel to its corner.
        np.testing.assert_allclose(camera.params, [500, 510, 320.5, 240.5])
    np.testing.assert_allclose(pair.rotation, TURN)
    np.testing.assert_allclose(pair.translation, SHIFT)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no pairs"),
        ("a b 0 0 1 2 3\n", "line 1"),
        (line("a", "b") + line("a", "c").replace("500.0", "x"), "line 2"),
        (line("a", "b", k=-K), "focal length"),
        (line("a", "b", turn=2 * TURN), "has no rotation"),
    ],
)
def test_a_broken_list(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(DiskHlocError) as error:
        read_calibrated_pairs(path)
    assert one_line_error(error, path, part)


def test_figures_by_hand() -> None:
    found = two_views.figures_of(np.array([0.5, 3.0, 7.2, np.inf]))
    assert found["pairs"] == 4
    assert found["failed"] == 1
    assert found["median"] == pytest.approx(5.1)
    assert found["maa"]["10"] == pytest.approx((2 * 1 + 5 * 2 + 3 * 3) / 40)
    # 1 - 0.5 / 10, 1 - 0.3 and 1 - 0.72.
    assert found["auc"]["10"] == pytest.approx((0.95 + 0.7 + 0.28) / 4)
    assert two_views.figures_of(np.array([1, np.inf, np.inf]))["median"] is None


@pytest.mark.parametrize("library", ["poselib", "pycolmap"])
def test_the_command(files, tmp_path: Path, library: str) -> None:
    if library == "poselib":
        pytest.importorskip("poselib")
    features, matches, pairs = files
    arguments = [str(features), str(matches), f"--pairs-with-gt={pairs}", f"--out={tmp_path}"]
    done = CliRunner().invoke(app, ["eval", "stereo", *arguments, f"--estimator={library}"])
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["estimator"] == library
    (good, *bad) = results["errors"]
    assert good[:2] == ["a.jpg", "b.jpg"]
    # Exact points: nothing is lost between files, pixels and cameras.
    assert good[2] < 0.01
    assert [one[2] for one in bad] == [None, None]
    assert results["figures"]["failed"] == 2
    assert results["figures"]["maa"]["10"] == pytest.approx(1 / 3, abs=1e-4)
    assert (tmp_path / "results.md").is_file()


def test_a_principal_point_that_is_off_shows(files) -> None:
    features, matches, pairs = files
    pair = read_calibrated_pairs(pairs)[0]
    off = CalibratedPair(
        pair.names, pair.camera0, pair.camera1.__copy__(), pair.rotation, pair.translation
    )
    off.camera1.params = np.array(pair.camera1.params) + np.array([0, 0, 5, 0])
    exact, wrong = stereo.calibrated_pair_errors(features, matches, [pair, off])
    assert exact < 0.01 < 0.1 < wrong


def test_what_does_not_fit(files, tmp_path: Path) -> None:
    features, matches, pairs = files
    for options in ({}, {"pairs": pairs}, {"pairs_with_gt": pairs, "calibration": tmp_path}):
        with pytest.raises(DiskHlocError) as error:
            two_views.main(features, matches, tmp_path, **options)
        assert one_line_error(error, "--calibration")
    pairs.write_text(line("a.jpg", "unknown.jpg"))
    with pytest.raises(DiskHlocError) as error:
        two_views.main(features, matches, tmp_path, pairs_with_gt=pairs)
    assert one_line_error(error, features, "unknown.jpg")
    pairs.write_text(line("b.jpg", "c.jpg"))
    with pytest.raises(DiskHlocError) as error:
        two_views.main(features, matches, tmp_path, pairs_with_gt=pairs)
    assert one_line_error(error, matches, "none of the pairs")
    with pytest.raises(DiskHlocError, match="no estimator is called 'opencv'"):
        estimators.estimate_relative_pose(
            np.zeros((9, 2)), np.zeros((9, 2)), *[read_calibrated_pairs(pairs)[0].camera0] * 2,
            library="opencv",
        )  # fmt: skip


def test_calibration_files_of_a_real_scene(data: Path, tmp_path: Path) -> None:
    """A pair that DISK solves, with the challenge's calibration."""
    scene = data / "reichstag"
    names = sorted(path.name for path in (scene / "images").glob("*.jpg"))[:3]
    listed = tmp_path / "images.txt"
    listed.write_text("\n".join(names))
    features, matches, pairs = (tmp_path / name for name in ("f.h5", "m.h5", "p.txt"))
    conf = confs.extractors()["disk-2k"]
    extract.main(conf, scene / "images", features, image_list=listed)
    write_pairs(pairs, [(names[0], names[1]), (names[2], names[1])])
    match.main(confs.matchers()["disk"], pairs, features, matches)
    found = two_views.main(
        features, matches, tmp_path, pairs=pairs, calibration=scene / "calibration"
    )
    assert found["figures"]["pairs"] == 2
    assert found["figures"]["maa"]["10"] > 0.5
