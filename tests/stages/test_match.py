"""Matching: hloc's file, resumed runs, missing images."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from disk_hloc import confs, models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.models.base import Matcher
from disk_hloc.models.matchers.disk import NearestNeighbors
from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue
from disk_hloc.models.nearest import match as nearest
from disk_hloc.stages import extract, match, pairs


@pytest.fixture(scope="module")
def extracted(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features.h5 and pairs.txt of the drawn scene."""
    folder = tmp_path_factory.mktemp("extracted")
    conf = {**confs.extractors()["disk"], "model": {"name": "disk", "max_keypoints": 300}}
    extract.main(conf, scene / "images", folder / "features.h5")
    pairs.main("exhaustive", folder / "features.h5", folder / "pairs.txt")
    return folder


@pytest.mark.parametrize("name", ["disk", "disk-ratio", "disk+lightglue"])
def test_every_conf_matches_neighbouring_photos(extracted: Path, tmp_path: Path, name: str) -> None:
    path = match.main(
        confs.matchers()[name],
        extracted / "pairs.txt",
        extracted / "features.h5",
        tmp_path / "new" / "matches.h5",
    )
    with h5py.File(path) as file:
        group = file["0000.jpg"]["0001.jpg"]
        assert group["matches0"].shape == group["matching_scores0"].shape == (300,)
        assert group["matches0"].dtype == np.int16
        assert group["matching_scores0"].dtype == np.float16
        assert (group["matches0"][()] >= 0).sum() > 80
        assert sum(len(file[first]) for first in file) == 10


def test_matches_are_those_of_the_matcher(extracted: Path, tmp_path: Path) -> None:
    path = match.main(
        confs.matchers()["disk-ratio"],
        extracted / "pairs.txt",
        extracted / "features.h5",
        tmp_path / "matches.h5",
    )
    with h5py.File(path) as file, h5py.File(extracted / "features.h5") as features:
        first, second = (
            torch.from_numpy(features[name]["descriptors"][()]).float()
            for name in ("0002.jpg", "0004.jpg")
        )
        expected = nearest(first, second, ratio_threshold=0.95)[0].numpy()
        np.testing.assert_array_equal(file["0002.jpg"]["0004.jpg"]["matches0"][()], expected)


def test_a_stopped_run_resumes_and_overwrite_starts_over(extracted: Path, tmp_path: Path) -> None:
    conf = confs.matchers()["disk"]
    features, matches = extracted / "features.h5", tmp_path / "matches.h5"
    some = tmp_path / "some.txt"
    some.write_text("0001.jpg 0000.jpg\n")
    match.main(conf, some, features, matches)
    with h5py.File(matches, "a") as file:
        file["0001.jpg"]["0000.jpg"].attrs["kept"] = True
    match.main(conf, extracted / "pairs.txt", features, matches)
    with h5py.File(matches) as file:
        assert file["0001.jpg"]["0000.jpg"].attrs["kept"]
        assert "0000.jpg" not in file or "0001.jpg" not in file["0000.jpg"]
        found = read_matches(file, "0000.jpg", "0001.jpg")
        assert found is not None
        assert len(found) > 80
        assert sum(len(file[first]) for first in file) == 10
    with pytest.raises(DiskHlocError, match="another conf"):
        match.main(confs.matchers()["disk-ratio"], some, features, matches)
    match.main(confs.matchers()["disk-ratio"], some, features, matches, overwrite=True)
    with h5py.File(matches) as file:
        assert sum(len(file[first]) for first in file) == 1


def test_names_that_hloc_cannot_tell_apart_come_and_go(extracted: Path, tmp_path: Path) -> None:
    features, matches, listed = (tmp_path / name for name in ("f.h5", "m.h5", "pairs.txt"))
    new = {"0000.jpg": "a/b c.jpg", "0001.jpg": "a-b c.jpg", "0002.jpg": "#1.jpg"}
    with h5py.File(extracted / "features.h5") as source, h5py.File(features, "w") as file:
        for name, renamed in new.items():
            source.copy(source[name], file, renamed)
    conf = confs.matchers()["disk"]
    three, two = list(combinations(new.values(), 2)), [("a/b c.jpg", "#1.jpg")]
    for pairs_now in (two, three, two):
        write_pairs(listed, pairs_now)
        match.main(conf, listed, features, matches)
        fresh = match.main(conf, listed, features, tmp_path / "fresh.h5", overwrite=True)
        assert matches.read_bytes() == fresh.read_bytes()
    write_pairs(listed, three)
    match.main(conf, listed, features, matches)
    whole = match.main(conf, extracted / "pairs.txt", extracted / "features.h5", fresh)
    with h5py.File(matches) as file, h5py.File(whole) as other:
        for first, second in combinations(new, 2):
            expected = read_matches(other, first, second)
            np.testing.assert_array_equal(read_matches(file, new[first], new[second]), expected)


def test_an_image_without_features_is_named(extracted: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("0000.jpg 0001.jpg\n0000.jpg absent.jpg\n")
    with pytest.raises(DiskHlocError, match=r"features\.h5 is missing 1 .*absent\.jpg"):
        match.main(
            confs.matchers()["disk"],
            tmp_path / "pairs.txt",
            extracted / "features.h5",
            tmp_path / "matches.h5",
        )
    assert not (tmp_path / "matches.h5").exists()


def test_second_images_may_be_in_another_file(extracted: Path, tmp_path: Path) -> None:
    """Queries are in one file and the database in another, as with hloc's features_ref."""
    features = extracted / "features.h5"
    (tmp_path / "pairs.txt").write_text("0003.jpg 0000.jpg\n0003.jpg 0001.jpg\n")
    conf = confs.matchers()["disk"]
    with h5py.File(features) as source:
        for path, names in (("query.h5", ["0003.jpg"]), ("db.h5", ["0000.jpg", "0001.jpg"])):
            with h5py.File(tmp_path / path, "w") as file:
                for name in names:
                    source.copy(name, file)
    together = match.main(conf, tmp_path / "pairs.txt", features, tmp_path / "together.h5")
    paths = (tmp_path / "pairs.txt", tmp_path / "query.h5", tmp_path / "apart.h5")
    apart = match.main(conf, *paths, reference_path=tmp_path / "db.h5")
    with h5py.File(together) as file, h5py.File(apart) as other:
        for name in ("0000.jpg", "0001.jpg"):
            expected = read_matches(file, "0003.jpg", name)
            np.testing.assert_array_equal(read_matches(other, "0003.jpg", name), expected)
            assert len(expected) > 50
    with pytest.raises(DiskHlocError, match=r"query\.h5 is missing 2"):
        match.main(conf, *paths, overwrite=True)


@pytest.mark.parametrize("name", ["disk", "disk-ratio", "disk+lightglue"])
def test_pairs_that_go_together_are_matched_as_each_alone(
    extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # One image has fewer keypoints, so its pairs do not fit in a batch with the others.
    conf, files = confs.matchers()[name], (extracted / "pairs.txt", tmp_path / "features.h5")
    shutil.copy(extracted / "features.h5", files[1])
    keep(files[1], "0004.jpg", 250)
    one = match.main(conf, *files, tmp_path / "one.h5")
    sizes = batches(monkeypatch, NearestNeighbors, 3)
    several = match.main(conf, *files, tmp_path / "several.h5")
    assert one.read_bytes() == several.read_bytes()
    assert sum(sizes) == 10
    assert max(sizes) == (1 if "lightglue" in name else 3)


def keep(path: Path, name: str, count: int) -> None:
    """Keep the first keypoints of an image alone."""
    with h5py.File(path, "a") as file:
        for key in ("keypoints", "keypoint_scores", "scores", "descriptors"):
            values = file[name][key][()]
            del file[name][key]
            file[name][key] = values[:, :count] if key == "descriptors" else values[:count]


def batches(monkeypatch: pytest.MonkeyPatch, kind: type[Matcher], count: int) -> list[int]:
    """Let a matcher take pairs together on the CPU, too; return the sizes of its batches."""
    sizes: list[int] = []
    monkeypatch.setitem(kind.pairs_at_once, "cpu", count)
    stacked = match._stacked
    monkeypatch.setattr(
        match, "_stacked", lambda batch: [sizes.append(len(batch)), stacked(batch)][1]
    )
    return sizes


def test_pairs_of_unequal_numbers_go_together_where_the_matcher_takes_them(
    extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = extracted / "pairs.txt", tmp_path / "features.h5"
    shutil.copy(extracted / "features.h5", files[1])
    with h5py.File(files[1]) as file:
        most = min(len(one["keypoints"]) for one in file.values())
    names = [f"000{i}.jpg" for i in range(5)]
    for name, part in zip(names, (0.4, 0.9, 0.95, 0.85, 1), strict=True):
        keep(files[1], name, int(part * most))
    conf = confs.matchers()["disk+lightglue"]
    one = match.main(conf, *files, tmp_path / "one.h5")
    sizes = batches(monkeypatch, DiskLightGlue, 6)
    several = match.main(conf, *files, tmp_path / "several.h5")
    assert sum(sizes) == 10
    # Those of the first image have fewer than two thirds of the others' keypoints.
    assert sorted(sizes) == [4, 6]
    with h5py.File(one) as alone, h5py.File(several) as together:
        listed = [(first, second) for first in alone for second in alone[first]]
        assert len(listed) == 10
        for first, second in listed:
            pair = alone[first][second], together[first][second]
            expected, found = (each["matches0"][()] for each in pair)
            assert len(expected) == len(found)
            assert (expected == found).mean() > 0.99


class SmallDevice(NearestNeighbors):
    """Runs out of memory with several pairs, with the error of torch."""

    most = 1

    def forward(self, data):
        if len(data["descriptors0"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(data)


def test_when_memory_runs_out_fewer_pairs_go_together(
    extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, files = confs.matchers()["disk"], (extracted / "pairs.txt", extracted / "features.h5")
    one = match.main(conf, *files, tmp_path / "one.h5")
    monkeypatch.setattr(models, "load", lambda kind, name: SmallDevice)
    monkeypatch.setitem(NearestNeighbors.pairs_at_once, "cpu", 4)
    several = match.main(conf, *files, tmp_path / "several.h5")
    assert one.read_bytes() == several.read_bytes()
    monkeypatch.setattr(SmallDevice, "most", 0)
    with pytest.raises(DiskHlocError, match=r"0000.jpg and 0001.jpg need more memory than cpu has"):
        match.main(conf, *files, tmp_path / "none.h5")
