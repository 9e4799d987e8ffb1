"""Aachen's pipelines on its layout in small, with the engine at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.hloc.queries import read_retrieval
from disk_hloc.pipelines import aachen, aachen_v1_1
from disk_hloc.plugin import engine

# What auto would take, by name: which one that is depends on the lane.
ENGINE = "native" if engine.native_verdict().works else "hloc"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of both versions: the photos are the same, and so are the features."""
    return tmp_path_factory.mktemp("outputs")


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
    # A second run takes what is there, and pairs of one's own.
    mine = outputs / "mine.txt"
    mine.write_text("".join(f"{query} {images[0]}\n" for query, images in retrieved.items()))
    again = pipeline.main(dataset, outputs, retrieval=str(mine), engine=ENGINE)
    assert again["localized"] == 3
    assert "mine" in again["results"]


def test_a_part_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "images_upright").mkdir()
    with pytest.raises(DiskHlocError, match="lacks 3D-models/aachen_v_1_1, queries"):
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


def test_a_conf_of_ones_own_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "images": "images"}))
    with pytest.raises(DiskHlocError, match="lacks queries, extractor"):
        aachen.read_conf(str(path))
    with pytest.raises(DiskHlocError, match="cannot read the conf"):
        aachen.read_conf("no_such_conf")
