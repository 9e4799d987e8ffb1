"""Figures of HPatches: of photos, of features by hand, and of published results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import homographies, hpatches
from disk_hloc.io.benchmarks import hpatches as files
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


def test_caches_alone(data: Path, tmp_path: Path) -> None:
    names = ("disk-imsize-1024-nms-3-nump-2048", "PoSFeat_CVPR")
    arguments = [f"--cache={data / 'hpatches_published' / name}.npy" for name in names]
    done = CliRunner().invoke(app, ["eval", "hpatches", "--out", str(tmp_path), *arguments])
    assert done.exit_code == 0, done.output
    assert "0.415/0.753/0.813" in done.output
    assert "0.396/0.764/0.865" in done.output
    assert set(json.loads((tmp_path / "results.json").read_text())["methods"]) == set(names)
    assert "0.415/0.753/0.813" in (tmp_path / "results.md").read_text()
    assert "0.775/0.826/0.728" in done.output
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
        for number in files.NUMBERS
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
    # (0.75 * (1.9 + 1.8 + 1.7 + 1.6 + 1.5) + 1.4 + 1.3 + 1.2 + 1.1 + 1) / 14.5
    assert figures["mma_score"]["all"] == pytest.approx(12.375 / 14.5, abs=1e-4)
    assert figures["mma_score"]["viewpoint"] == 1
    assert figures["homography_auc"]["all"] == {"1": 0, "3": 0, "5": 0}
    assert figures["repeatability"]["all"] == 0.5
