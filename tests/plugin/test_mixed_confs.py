"""What --extractor and --matcher name: one extractor, or several to mix."""

from __future__ import annotations

from pathlib import Path

import pytest

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError
from disk_hloc.plugin import find_conf, find_parts, split_names
from support.errors import one_line_error


def test_one_extractor_is_one_part_with_the_matcher_that_is_given() -> None:
    (part,) = find_parts("disk", "disk+lightglue")
    assert part.extractor == find_conf("extractors", "disk")
    assert part.matcher == find_conf("matchers", "disk+lightglue")
    assert part.name == part.stem == "disk"


@pytest.mark.parametrize("name", confs.extractors())
def test_every_extractor_has_a_matcher_of_its_own(name: str) -> None:
    (part,) = find_parts(name)
    expected = {"sift": "sift-ratio"}.get(name, "disk")
    assert part.matcher == find_conf("matchers", expected)


def test_a_mix_has_a_matcher_for_each_extractor_in_order(tmp_path: Path) -> None:
    parts = find_parts("disk-2k+sift")
    assert [part.name for part in parts] == ["disk-2k", "sift"]
    assert [part.matcher["output"] for part in parts] == [
        "matches-disk-mutual",
        "matches-sift-mutual-ratio.8",
    ]
    parts = find_parts("sift+aliked+disk", "sift-ratio, aliked+lightglue,disk+lightglue")
    assert [part.extractor["output"] for part in parts] == [
        "feats-opencv-rootsift",
        "feats-aliked-n16",
        "feats-disk",
    ]
    assert [part.matcher["model"]["name"] for part in parts] == [
        "disk",
        "aliked_lightglue",
        "disk_lightglue",
    ]


def test_a_plus_in_the_name_of_a_file_joins_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "a+b" / "my+own.yaml"
    mine.parent.mkdir()
    mine.write_text("output: f\nmodel: {name: opencv_sift}\npreprocessing: {grayscale: true}\n")
    assert split_names(str(mine)) == [str(mine)]
    parts = find_parts(f"disk+{mine}+sift")
    assert [part.name for part in parts] == ["disk", str(mine), "sift"]
    assert [part.stem for part in parts] == ["disk", "my+own", "sift"]
    # What matches its features is said by the model, whatever the conf is called.
    assert parts[1].matcher == parts[2].matcher != parts[0].matcher


@pytest.mark.parametrize(
    ("extractor", "matcher", "parts"),
    [
        ("disk+sift", "disk+lightglue", ["disk, sift", "give 2", "such as disk,sift-ratio"]),
        ("disk+sift", "disk,disk,disk", ["disk, sift", "give 2"]),
        ("disk+sift", "disk,", ["no matcher is called ''"]),
        ("disk+disk", None, ["disk+disk", "two parts called disk"]),
        ("disk+fists", None, ["no extractor is called 'fists'", "disk, disk-2k"]),
        ("disk+", None, ["no extractor is called ''"]),
        ("disk+lightglue", None, ["no extractor is called 'lightglue'"]),
        ("disk+absent.yaml", None, ["absent.yaml"]),
        ("disk", "disk,sift-ratio", ["no matcher is called 'disk,sift-ratio'"]),
    ],
)
def test_what_is_no_mix_is_refused(extractor: str, matcher: str | None, parts: list[str]) -> None:
    with pytest.raises(DiskHlocError) as error:
        find_parts(extractor, matcher)
    assert one_line_error(error, *parts)


def test_where_one_extractor_is_taken_a_mix_is_refused_with_where_it_is_not() -> None:
    with pytest.raises(DiskHlocError) as error:
        find_conf("extractors", "disk+sift")
    assert one_line_error(error, "no extractor is called 'disk+sift'", "reconstruct, compare")
