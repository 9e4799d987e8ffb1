"""A tiny fine-tuning, from photos of the drawn scene to the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
import yaml
from packaging.version import Version
from PIL import Image

from disk_hloc import confs, weights
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import comparison_of_weights as comparison
from disk_hloc.io.colmap import cam_from_world
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.store import reading
from disk_hloc.pipelines import finetune, reporting
from disk_hloc.plugin import find_conf
from support.errors import one_line_error

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    conf = confs.extractors()["disk"]
    conf["model"]["max_keypoints"] = 500
    path = tmp_path_factory.mktemp("conf") / "small.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def arguments(scene: Path, extractor: Path, output: Path, **changes: Any) -> dict[str, Any]:
    model, _, _, parameters = read_camera(scene / "camera.txt")
    return {
        "image_dir": scene / "images",
        "output": output,
        "extractor": str(extractor),
        "poses": scene / "poses.txt",
        "camera": f"{model} {','.join(map(str, parameters))}",
        "engine": "native",
        "within": (0.01, 1.0),
        "steps": 2,
        "image_size": (128, 96),
        "learning_rate": 1e-3,
        **changes,
    }


@pytest.fixture(scope="module")
def finished(scene: Path, extractor: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finetune")
    finetune.main(**arguments(scene, extractor, output))
    return output


def test_held_out_photos_are_not_trained_on(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["held_out"] == ["0001.jpg", "0003.jpg"]
    scenes = json.loads((finished / "dataset" / "dataset.json").read_text())
    (scene,) = scenes.values()
    assert scene["images"] == ["0000.jpg", "0002.jpg", "0004.jpg"]
    assert scene["tuples"] == [[0, 1, 2]]
    counts = {group: found["pairs"] for group, found in results["groups"].items()}
    assert counts == {"unseen": 1, "half unseen": 6, "trained on": 3}


def test_the_page(scene: Path, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    page = reporting.main(copy, scene / "images").read_text(encoding="utf-8")
    assert "Held out: 0001.jpg, 0003.jpg." in page
    assert page.count("matches verify") == 2
    content = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert set(json.loads(content)["scenes"]) == set(comparison.ROWS)


def test_the_new_weights_are_the_trained_ones(finished: Path) -> None:
    tuned = find_conf("extractors", str(finished / "extractor.yaml"))
    assert tuned["model"]["max_keypoints"] == 500
    results = json.loads((finished / "results.json").read_text())
    assert (
        results["settings"]["extractor"]
        == json.loads((finished / "settings.json").read_text())["extractor"]
    )
    before = weights.load_disk("depth")
    after = weights.load_disk(tuned["model"]["weights"])
    assert set(before) == set(after)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with reading(finished / "before" / "features.h5") as first:
        keypoints = read_keypoints(first, "0001.jpg")
    with reading(finished / "after" / "features.h5") as second:
        assert not np.array_equal(keypoints, read_keypoints(second, "0001.jpg"))


@pytest.mark.parametrize("row", comparison.ROWS)
def test_right_matches_are_counted_by_the_known_poses(
    scene: Path, finished: Path, row: str
) -> None:
    results = json.loads((finished / "results.json").read_text())
    _, _, _, (fx, fy, cx, cy) = read_camera(scene / "camera.txt")
    inverse = np.linalg.inv([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    pose0, pose1 = (read_poses(scene / "poses.txt")[name] for name in results["held_out"])
    with (
        reading(finished / row / "features.h5") as features,
        reading(finished / row / "matches.h5") as matches,
    ):
        matched = read_matches(matches, *results["held_out"])
        points = [
            np.column_stack([read_keypoints(features, name)[of_name] + 0.5, np.ones(len(matched))])
            for name, of_name in zip(results["held_out"], matched.T, strict=True)
        ]
    rotation = pose1.rotation @ pose0.rotation.T
    x, y, z = pose1.translation - rotation @ pose0.translation
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    fundamental = inverse.T @ skew @ rotation @ inverse
    lines1, lines0 = points[0] @ fundamental.T, points[1] @ fundamental
    residual = np.abs((points[1] * lines1).sum(axis=1))
    errors = residual / np.minimum(*(np.hypot(*line[:, :2].T) for line in (lines0, lines1)))
    figures = results["groups"]["unseen"][row]
    assert figures["matches"] == len(matched)
    assert 0 < figures["verified"] <= len(matched)
    assert figures["precision"]["1"] == pytest.approx((errors < 1).mean(), abs=1e-3)
    assert figures["precision"]["3"] == pytest.approx((errors < 3).mean(), abs=1e-3)
    assert figures["precision"]["3"] > 0.5
    assert set(figures["maa"]) == {"1", "2", "5", "10"}


def test_the_table_and_the_picture(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    lines = comparison.table(results)
    assert [line[0] for line in lines[1:]] == [
        g for g in comparison.GROUPS for _ in comparison.ROWS
    ]
    assert {line[2] for line in lines[1:]} == set(comparison.ROWS)
    assert results["models"]["before"]["registered"] == 5
    assert results["models"]["before"]["mean_position_error"] < 0.02
    assert "known poses" in (finished / "results.md").read_text()
    with Image.open(finished / "matches.png") as picture:
        assert picture.size[0] > 1000


def test_what_is_done_is_kept_and_other_settings_are_refused(
    scene: Path, extractor: Path, finished: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    kept = [output / "training" / "save-18.pth", output / "before" / "sfm" / "images.bin"]
    times = [path.stat().st_mtime_ns for path in kept]
    before = json.loads((output / "results.json").read_text())
    with pytest.raises(DiskHlocError) as error:
        finetune.main(**arguments(scene, extractor, output, steps=3))
    assert one_line_error(error, output, "'chunk_size': 3", "--overwrite")
    more = Path(shutil.copytree(scene, tmp_path / "more"))
    shutil.copyfile(more / "images" / "0000.jpg", more / "images" / "0005.jpg")
    with pytest.raises(DiskHlocError) as error:
        finetune.main(**arguments(more, extractor, output))
    assert one_line_error(error, output, "images (5 of them, now 6 of them)", "--overwrite")
    assert json.loads((output / "results.json").read_text()) == before
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_what_cannot_be_trained_is_reported_at_once(
    scene: Path, extractor: Path, tmp_path: Path
) -> None:
    with pytest.raises(DiskHlocError) as error:
        finetune.main(**{**arguments(scene, extractor, tmp_path / "o"), "extractor": "sift"})
    assert one_line_error(error, "sift", "only the network of disk")
    assert not (tmp_path / "o").exists()
    names = [f"{i}" for i in range(11)]
    assert comparison.held_out_images(names, 0.35, 3) == ["1", "4", "6", "9"]
    with pytest.raises(DiskHlocError, match="2 of 4 photos held out"):
        comparison.held_out_images(names[:4], 0.1, 3)
    with pytest.raises(DiskHlocError, match=r"share of 1\.5"):
        comparison.held_out_images(names, 1.5, 3)


def test_a_run_that_was_stopped_after_the_training_resumes(
    scene: Path, extractor: Path, finished: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    for name in ("weights.pth", "extractor.yaml", "results.json"):
        (output / name).unlink()
    shutil.rmtree(output / "after")
    kept = [output / "training" / "save-18.pth", output / "before" / "sfm" / "images.bin"]
    times = [path.stat().st_mtime_ns for path in kept]
    results = finetune.main(**arguments(scene, extractor, output))
    # Another model might register other photos, and so hold out others.
    assert [path.stat().st_mtime_ns for path in kept] == times
    former = json.loads((finished / "results.json").read_text())
    assert (
        json.loads(json.dumps(results["groups"]))["unseen"]["after"]["matches"]
        == (former["groups"]["unseen"]["after"]["matches"])
    )


def test_with_a_dense_workspace_the_reward_is_by_depth(
    scene: Path, extractor: Path, finished: Path, tmp_path: Path
) -> None:
    dense, output = tmp_path / "dense", tmp_path / "out"
    shutil.copytree(finished / "before" / "sfm", dense / "sparse")
    shutil.copytree(scene / "images", dense / "images")
    model = pycolmap.Reconstruction(dense / "sparse")
    maps = dense / "stereo" / "depth_maps"
    maps.mkdir(parents=True)
    for image in model.images.values():
        # Depth at the points of the model only: less than stereo has, but correct.
        depth = np.zeros((384, 512), np.float32)
        pose = cam_from_world(image)
        for point in image.points2D:
            if point.has_point3D():
                column, row = np.floor(point.xy).astype(int)
                xyz = model.points3D[point.point3D_id].xyz
                depth[row, column] = (pose.rotation.matrix() @ xyz + pose.translation)[2]
        path = maps / f"{image.name}.geometric.bin"
        path.write_bytes(b"512&384&1&" + depth.tobytes())
    results = finetune.main(**arguments(scene, extractor, output, dense=dense, poses=None))
    assert results["settings"]["training"]["reward"] == "depth"
    assert results["settings"]["judged_by"] == "the poses of the model before"
    (entry,) = json.loads((output / "dataset" / "dataset.json").read_text()).values()
    assert entry["images"] == ["0000.jpg", "0002.jpg", "0004.jpg"]
    files = [path.name for path in (output / "dataset" / "depth").iterdir()]
    assert sorted(files) == ["0000.h5", "0002.h5", "0004.h5"]
