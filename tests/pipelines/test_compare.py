"""Rows side by side on the drawn scene, whose poses are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pycolmap
import pytest
import torch
from packaging.version import Version
from PIL import Image

from disk_hloc import models, plugin
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import comparison
from disk_hloc.eval.rows import find_row, is_current
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.hloc.poses import read_camera
from disk_hloc.pipelines import compare, compare_row
from disk_hloc.report.pair_picture import PAIR_HEIGHT, TITLE_HEIGHT
from disk_hloc.stages import extract, match, reconstruct
from support.errors import one_line_error

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)

ROWS = ["disk", "disk-ratio", "sift", "absent/disk"]


def arguments(scene: Path, output: Path, **changes) -> dict:
    model, _, _, parameters = read_camera(scene / "camera.txt")
    return {
        "image_dir": scene / "images",
        "output": output,
        "rows": ROWS,
        "max_keypoints": 400,
        "poses": scene / "poses.txt",
        "camera": f"{model} {','.join(map(str, parameters))}",
        "engine": "native",
        **changes,
    }


@pytest.fixture(scope="module")
def finished(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compare")
    compare.main(**arguments(scene, output))
    return output


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_rows_are_measured_in_the_same_way(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert list(results["rows"]) == ROWS
    for name in ROWS[:3]:
        row = results["rows"][name]
        figures = row["figures"]
        assert 100 < figures["keypoints"] <= 400
        assert 0 < figures["verified"] <= figures["matches"] < figures["keypoints"]
        assert figures["inlier_ratio"] == pytest.approx(
            figures["verified"] / figures["matches"], abs=0.01
        )
        assert set(row["seconds"]) == {"extract", "match", "reconstruct"}
        assert list(figures["stereo_maa"]) == list(figures["model_maa"]) == ["1", "2", "5", "10"]
    disk, ratio = (results["rows"][name]["figures"] for name in ("disk", "disk-ratio"))
    assert disk["registered"] == ratio["registered"] == 5
    assert disk["keypoints"] == ratio["keypoints"] == 400
    assert ratio["matches"] < disk["matches"]
    assert disk["model_maa"]["5"] > 0.9
    assert disk["stereo_maa"]["10"] > 0.8
    assert disk["position_error"] < 0.02
    seconds = [results["rows"][name]["seconds"]["extract"] for name in ("disk", "disk-ratio")]
    assert seconds[0] == seconds[1] > 0
    model = pycolmap.Reconstruction(finished / "rows" / "disk" / "sfm")
    assert model.num_points3D() == disk["points3D"]
    assert results["settings"]["max_keypoints"] == 400
    assert results["settings"]["fix_intrinsics"] is True


def test_photos_are_retrieved_by_disk_whatever_the_rows(scene: Path, tmp_path: Path) -> None:
    conf = tmp_path / "few.yaml"
    conf.write_text("output: x\nmodel: {name: retrieval, num_matched: 1}\n")
    options = arguments(scene, tmp_path / "out", rows=["sift"], pairs_from=str(conf))
    results = compare.main(**options)
    assert 3 <= len(read_pairs(tmp_path / "out" / "pairs.txt")) <= 5
    assert results["rows"]["sift"]["figures"]["keypoints"] <= 400
    with h5py.File(tmp_path / "out" / "features" / "disk.h5") as file:
        assert {len(file[name]["keypoints"]) for name in file} == {400}


def test_a_row_that_cannot_be_run_is_in_the_table_with_its_reason(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert set(results["rows"]["absent/disk"]) == {"reason"}
    assert "no extractor is called 'absent'" in results["rows"]["absent/disk"]["reason"]
    for text in (comparison.table(results["rows"]), (finished / "results.md").read_text()):
        (line,) = [line for line in text.splitlines() if line.strip("| ").startswith("absent/disk")]
        assert "not run [1]" in line
        assert not any(character in "023456789" for character in line)
        assert "[1] absent/disk: no extractor is called 'absent'" in text


def test_the_picture_has_a_panel_for_each_row(finished: Path) -> None:
    picture = np.asarray(Image.open(finished / "matches.png")).astype(int)
    assert picture.shape == (2 * (PAIR_HEIGHT + TITLE_HEIGHT), 2 * 800, 3)
    greenish = (picture[..., 1] > 1.5 * picture[..., 0]) & (picture[..., 1] > 120)
    half, middle = picture.shape[0] // 2, picture.shape[1] // 2
    panels = greenish[:half, :middle], greenish[:half, middle:], greenish[half:, :middle]
    assert all(panel.sum() > 200 for panel in panels)
    assert greenish[half:, middle:].sum() == 0


def test_what_is_finished_is_not_run_again(scene: Path, copied: Path, monkeypatch) -> None:
    def forbidden(*_, **__):
        raise AssertionError("ran again")

    before = json.loads((copied / "results.json").read_text())
    monkeypatch.setattr(reconstruct, "main", forbidden)
    monkeypatch.setattr(extract, "extract_photos", forbidden)
    again = compare.main(**arguments(scene, copied, rows=["disk", "sift"]))
    assert again["rows"] == before["rows"]


def test_a_photo_that_has_changed_is_noticed(scene: Path, copied: Path, tmp_path: Path) -> None:
    """Of the features only those of that photo are made again, and all figures are."""
    photos = shutil.copytree(scene / "images", tmp_path / "images")
    changed = sorted(photos.iterdir())[0]
    with Image.open(changed) as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(changed)
    given = arguments(scene, copied, rows=["sift"], image_dir=photos)
    results = compare.main(**given)
    fresh = compare.main(**{**given, "output": tmp_path / "fresh"})
    assert list(results["rows"]) == ["sift"]
    assert results["rows"]["sift"]["figures"] == fresh["rows"]["sift"]["figures"]
    for name in ("features/sift.h5", "rows/sift/matches.h5"):
        assert (copied / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_ctrl_c_loses_nothing(scene: Path, copied: Path, monkeypatch) -> None:
    """After a stop while matching, the next run keeps the features and their time."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def forbidden(*_, **__):
        raise AssertionError("extracted again")

    with monkeypatch.context() as patch:
        patch.setattr(match, "match_pairs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare.main(**arguments(scene, copied, rows=["sift/disk"]))
    assert list(json.loads((copied / "results.json").read_text())["rows"]) == ROWS
    monkeypatch.setattr(extract, "extract_photos", forbidden)
    results = compare.main(**arguments(scene, copied, rows=["sift/disk"]))
    assert list(results["rows"]) == [*ROWS, "sift/disk"]
    seconds = [results["rows"][name]["seconds"]["extract"] for name in ("sift", "sift/disk")]
    assert seconds[0] == seconds[1]


def test_a_mix_takes_the_features_of_other_rows(scene: Path, copied: Path, monkeypatch) -> None:
    def forbidden(*_, **__):
        raise AssertionError("extracted again")

    with monkeypatch.context() as patch:
        patch.setattr(extract, "extract_photos", forbidden)
        rows = compare.main(**arguments(scene, copied, rows=["disk+sift"]))["rows"]
    mixed, disk, sift = (rows[name]["figures"] for name in ("disk+sift", "disk", "sift"))
    for figure in ("keypoints", "matches"):
        assert mixed[figure] == pytest.approx(disk[figure] + sift[figure], abs=0.2)
    assert mixed["points3D"] > disk["points3D"]
    assert mixed["position_error"] < 0.02
    seconds = [rows[name]["seconds"]["extract"] for name in ("disk+sift", "disk", "sift")]
    assert seconds[0] == pytest.approx(seconds[1] + seconds[2], abs=0.011)
    assert set(rows["disk+sift"]["seconds"]) == {"extract", "match", "reconstruct"}
    row, confs = find_row("disk+sift"), rows["disk+sift"]["confs"]["parts"]
    assert set(confs) == {"disk", "sift"}
    assert is_current(row, rows["disk+sift"], 400)
    assert not is_current(row, rows["disk+sift"], 300)
    compare_row.remove(row, copied)
    left = {path.name for path in (copied / "rows" / "disk+sift").rglob("*.h5")}
    assert not left
    assert not list((copied / "features").glob("*.h5"))


def test_the_time_of_a_killed_run_is_unknown(scene: Path, copied: Path) -> None:
    results = json.loads((copied / "results.json").read_text())
    del results["rows"]["sift"]
    (copied / "results.json").write_text(json.dumps(results))
    (copied / "rows" / "sift" / "matches.json").unlink()
    results = compare.main(**arguments(scene, copied, rows=["sift"]))
    assert results["rows"]["sift"]["seconds"]["match"] is None
    assert "/?/" in comparison.table(results["rows"])


def test_an_unexpected_error_stops_its_row_only(scene: Path, copied: Path, monkeypatch) -> None:
    class Broken:
        @classmethod
        def identity(cls, conf):
            return dict(conf)

        def __init__(self, conf):
            raise RuntimeError("out of\nluck")

    load = models.load
    monkeypatch.setattr(
        models, "load", lambda kind, name: Broken if kind == "matchers" else load(kind, name)
    )
    results = compare.main(**arguments(scene, copied, rows=["sift/disk", "disk"]))
    assert results["rows"]["sift/disk"] == {"reason": "RuntimeError: out of luck"}
    assert "figures" in results["rows"]["disk"]


def test_matches_without_a_model_are_results_too(scene: Path, copied: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text("output: m\nmodel: {name: disk, distance_threshold: 1.0e-6}\n")
    row = f"sift/{strict}"
    figures = compare.main(**arguments(scene, copied, rows=[row]))["rows"][row]
    assert figures["figures"]["registered"] == figures["figures"]["verified"] == 0
    assert figures["figures"]["stereo_maa"]["10"] == figures["figures"]["model_maa"]["10"] == 0
    assert "no model could be built" in figures["note"]


def test_other_settings_need_overwrite(scene: Path, copied: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        compare.main(**arguments(scene, copied, rows=["sift"], max_keypoints=300))
    assert one_line_error(error, "max_keypoints (400, now 300)", "--overwrite")
    changed = arguments(scene, copied, rows=["sift"], max_keypoints=300, overwrite=True)
    results = compare.main(**changed)
    assert list(results["rows"]) == ["sift"]
    assert results["rows"]["sift"]["figures"]["keypoints"] <= 300
    assert not (copied / "features" / "disk.h5").exists()


def test_a_row_that_is_run_again_keeps_its_place(scene: Path, copied: Path, monkeypatch) -> None:
    """Stopped in between, it does not count as done."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    changed = arguments(scene, copied, rows=["disk-ratio"], overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(match, "match_pairs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare.main(**changed)
    results = json.loads((copied / "results.json").read_text())
    assert set(results["rows"]["disk-ratio"]) == {"reason"}
    results = compare.main(**{**changed, "overwrite": False})
    assert list(results["rows"]) == ROWS
    assert "figures" in results["rows"]["disk-ratio"]


def test_mistakes_are_reported_before_anything_runs(scene: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    others = tmp_path / "others.txt"
    others.write_text("elsewhere.jpg 1 0 0 0 0 0 0\n")
    (tmp_path / "empty").mkdir()
    wrong = [
        ({"rows": ["disc"]}, "no row is called 'disc'; known: disk, disk-ratio"),
        ({"rows": []}, "no row is given"),
        ({"poses": others}, "at least two are needed"),
        ({"poses": tmp_path / "empty", "camera": None}, "no calibration_*.h5 of 5 of 5 images"),
        ({"poses": tmp_path / "empty"}, "leave --camera out"),
        ({"camera": "LOMO 1"}, "no camera model is called 'LOMO'"),
    ]
    for changes, message in wrong:
        with pytest.raises(DiskHlocError) as error:
            compare.main(**arguments(scene, output, **changes))
        assert one_line_error(error, message)
    assert not output.exists()


def test_photos_that_cannot_be_read_are_named(scene: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(scene / "images", tmp_path / "images"))
    (images / "cut.jpg").write_bytes((images / "0000.jpg").read_bytes()[:5000])
    with pytest.raises(DiskHlocError) as error:
        compare.main(**arguments(scene, tmp_path / "out", image_dir=images))
    assert one_line_error(error, images, "cut.jpg (truncated")


def test_without_any_row_there_is_no_table(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        compare.main(**arguments(scene, tmp_path / "out", rows=["absent/disk"]))
    assert one_line_error(error, "no row could be run", "absent/disk: no extractor")


def test_rows_that_need_packages_say_where_to_get_them(
    scene: Path, copied: Path, monkeypatch
) -> None:
    monkeypatch.setattr(plugin, "find_provider", lambda: None)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(copied))
    monkeypatch.delenv("DISK_HLOC_WEIGHTS", raising=False)
    results = compare.main(**arguments(scene, copied, rows=["superpoint+superglue", "loftr"]))
    reason = results["rows"]["superpoint+superglue"]["reason"]
    assert "superpoint+superglue needs hloc" in reason
    assert "pip install git+https" in reason
    assert "loftr_outdoor.ckpt" in results["rows"]["loftr"]["reason"]


def test_a_row_without_a_detector(scene: Path, copied: Path, monkeypatch) -> None:
    class Few:
        device = torch.device("cpu")
        stride = 8

        @classmethod
        def identity(cls, conf):
            return dict(conf)

        def __init__(self, conf):
            pass

        def to(self, device):
            return self

        def __call__(self, data):
            # No two in one cell, where they would become one keypoint.
            cells = torch.randperm(300 * 300)[:50]
            points = torch.stack([cells % 300, cells // 300], dim=1).float()
            return {"keypoints0": points, "keypoints1": points, "scores": torch.ones(50)}

    monkeypatch.setattr(models, "load", lambda kind, name: Few)
    row = compare.main(**arguments(scene, copied, rows=["loftr"]))["rows"]["loftr"]
    assert set(row["seconds"]) == {"match", "reconstruct"}
    assert 150 < row["figures"]["keypoints"] <= 200
    assert row["figures"]["matches"] == 50
