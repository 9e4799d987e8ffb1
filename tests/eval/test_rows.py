"""The rows of a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.rows import budgeted, find_row, named_rows
from disk_hloc.plugin import find_conf


def test_a_conf_without_a_number_of_keypoints_is_not_compared() -> None:
    with pytest.raises(DiskHlocError, match="no max_keypoints"):
        budgeted({"model": {"name": "r2d3"}}, 7)
    conf = {"model": {"name": "other", "max_num_keypoints": 5}}
    assert budgeted(conf, 7)["model"] == {"name": "other", "max_num_keypoints": 7}
    assert budgeted(conf, None) == conf


def test_rows_share_the_features_of_their_extractor_and_nothing_else(tmp_path: Path) -> None:
    rows = [find_row(name) for name in ("disk", "disk-ratio", "./a/b.yaml/disk", "loftr")]
    files = [row.files(tmp_path) for row in rows]
    assert files[0].features == files[1].features == tmp_path / "features" / "disk.h5"
    assert files[3].features.parent == files[3].matches.parent
    folders = [one.matches.parent for one in files]
    assert len(set(folders)) == 4
    assert {folder.parent for folder in folders} == {tmp_path / "rows"}


@pytest.mark.parametrize("name", named_rows())
def test_rows_with_a_name_run_confs_that_exist(name: str) -> None:
    row = find_row(name)
    if "superpoint" in name:
        pytest.skip("hloc's")
    if name == "disk+sift":
        parts = {"disk": find_row("disk").confs(None), "sift": find_row("sift").confs(None)}
        assert row.confs(None) == {"parts": parts}
        return
    assert set(row.confs(None)) == set(row.conf_names)
    for kind, conf_name in row.conf_names.items():
        found = find_conf(kind if kind == "dense" else f"{kind}s", conf_name)
        assert row.confs(None)[kind] == found


def test_a_mix_shares_the_features_of_its_parts(tmp_path: Path) -> None:
    row = find_row("disk+sift")
    parts = row.part_files(tmp_path, ["disk", "sift"])
    for name, (features, matches) in parts.items():
        assert features == find_row(f"{name}/disk").files(tmp_path).features
        assert row.files(tmp_path).matches.parent in matches.parents
    assert row.files(tmp_path).features == tmp_path / "features" / "disk+sift.h5"


@pytest.mark.parametrize("name", ["disc", "/disk", "disk/"])
def test_an_unknown_row_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(DiskHlocError, match=r"no row is called .*known: disk, disk-ratio"):
        find_row(name)
