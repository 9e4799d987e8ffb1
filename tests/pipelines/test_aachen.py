"""Aachen's pipelines on a small data set in its layout, with the engine that is installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.features import list_features, read_keypoints
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.hloc.queries import read_retrieval
from disk_hloc.io.store import reading
from disk_hloc.pipelines import aachen, aachen_v1_1
from disk_hloc.plugin import engine

# The one that auto would choose; it depends on what is installed.
ENGINE = "native" if engine.native_verdict().works else "hloc"


@pytest.fixture(scope="module")
def outputs(aachen_features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by both versions, which have the same photos and so the same features."""
    return Path(shutil.copytree(aachen_features, tmp_path_factory.mktemp("aachen") / "outputs"))


@pytest.mark.parametrize("pipeline", [aachen, aachen_v1_1])
def test_queries_are_localized(pipeline, data: Path, outputs: Path) -> None:
    dataset = data / "mini_aachen"
    truth = dataset / "queries" / "ground_truth.txt"
    summary = pipeline.main(dataset, outputs, num_loc=5, engine=ENGINE, ground_truth=truth)
    assert summary["points3D"] >= 5500
    assert summary["queries"] == summary["localized"] == 3
    assert summary["errors"]["all"]["recall"] == [1, 1, 1]
    assert summary["errors"]["night"]["median_position"] < 0.003
    assert summary["errors"]["all"]["median_rotation"] < 0.06
    results = Path(summary["results"])
    assert results.name.startswith(("Aachen_hloc_disk+disk", "Aachen-v1.1_hloc_disk+disk"))
    assert set(read_poses(results)) == {"0002.jpg", "0006.jpg", "0008.jpg"}
    assert json.loads(results.with_suffix(".json").read_text()) == summary
    retrieved = read_retrieval(outputs / "pairs-query-disk-vlad5.txt")
    assert {name: len(images) for name, images in retrieved.items()} == dict.fromkeys(
        read_poses(truth), 5
    )
    # A second run keeps the features, and localizes with given pairs.
    mine = outputs / "mine.txt"
    mine.write_text("".join(f"{query} {images[0]}\n" for query, images in retrieved.items()))
    again = pipeline.main(dataset, outputs, retrieval=str(mine), engine=ENGINE)
    assert again["localized"] == 3
    assert "mine" in again["results"]


def test_our_extractors_spend_no_keypoints_on_masked_pixels(data: Path, tmp_path: Path) -> None:
    """Masked afterwards, fewer than ``max_keypoints`` would be left."""
    conf = tmp_path / "small.yaml"
    model = {"name": "opencv_sift", "max_keypoints": 1000}
    conf.write_text(
        yaml.safe_dump({"output": "small", "model": model, "preprocessing": {"resize_max": 1024}})
    )
    right = np.zeros((683, 1024), np.uint8)
    right[:, 512:] = 255
    Image.fromarray(right).save(tmp_path / "right.png")
    options = {
        "extractor": str(conf), "matcher": "sift-ratio", "num_loc": 4, "engine": ENGINE,
        "masks": {"file": tmp_path / "right.png"},
    }  # fmt: skip
    summary = aachen_v1_1.main(data / "mini_aachen", tmp_path / "outputs", **options)
    assert summary["localized"] >= 2
    with reading(tmp_path / "outputs" / "small.h5") as features:
        for name in list_features(tmp_path / "outputs" / "small.h5"):
            keypoints = read_keypoints(features, name)
            assert len(keypoints) == 1000
            assert keypoints[:, 0].min() > 511


def test_a_part_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "images_upright").mkdir()
    with pytest.raises(DiskHlocError, match="has no 3D-models/aachen_v_1_1, queries"):
        aachen_v1_1.main(tmp_path, tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("kind", ["extractor", "matcher", "retrieval"])
def test_an_unknown_conf_is_named_before_anything_is_done(
    kind: str, data: Path, tmp_path: Path
) -> None:
    for name in ("psychic", "psychic.yaml"):
        with pytest.raises(DiskHlocError, match="psychic"):
            aachen.main(data / "mini_aachen", tmp_path / "outputs", **{kind: name})
    assert not (tmp_path / "outputs").exists()


def test_a_conf_of_the_user_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "images": "images"}))
    with pytest.raises(DiskHlocError, match="has no queries, extractor"):
        aachen.read_conf(str(path))
    with pytest.raises(DiskHlocError, match="cannot read the conf"):
        aachen.read_conf("no_such_conf")
