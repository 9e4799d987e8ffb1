"""Global descriptors: hloc's file, resumed and stopped runs, codebooks that fit or do not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.global_features import (
    codebook_path,
    list_globals,
    read_codebook,
    write_codebook,
)
from disk_hloc.io.store import journal_path
from disk_hloc.models import vlad
from disk_hloc.plugin import find_conf
from disk_hloc.stages import describe
from support.errors import one_line_error
from support.hloc_files import write_features

NAMES = ["db/1.jpg", "db/2.jpg", "db/night/1.jpg", "query.jpg"]
CONF: Mapping[str, Any] = {"output": "global", "model": {"name": "disk_vlad", "clusters": 5}}


def add(path: Path, name: str, count: int, length: int = 128) -> None:
    """Add an image with random unit descriptors; they depend only on the name."""
    random = np.random.default_rng(list(name.encode()))
    descriptors = random.normal(size=(length, count))
    descriptors /= np.linalg.norm(descriptors, axis=0)
    write_features(
        path,
        name,
        {
            "keypoints": random.random((count, 2)).astype(np.float32),
            "descriptors": descriptors.astype(np.float16),
            "image_size": np.array([640, 480]),
        },
        uncertainty=1.0,
    )


def contents(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name]["global_descriptor"][()] for name in list_globals(path)}


@pytest.fixture
def features(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        add(tmp_path / "features.h5", name, 50 + i)
    return tmp_path / "features.h5"


def test_the_file_is_hlocs_with_the_codebook_beside_it(features: Path, tmp_path: Path) -> None:
    path = describe.main(CONF, features, tmp_path / "new" / "global.h5")
    assert path == tmp_path / "new" / "global.h5"
    assert codebook_path(path) == tmp_path / "new" / "global.codebook.npz"
    book = read_codebook(codebook_path(path))
    assert book.shape == (5, 128)
    assert list_globals(path) == NAMES
    with h5py.File(path) as file, h5py.File(features) as source:
        for name in NAMES:
            assert list(file[name]) == ["global_descriptor"]
            found = file[name]["global_descriptor"]
            assert found.dtype == np.float32
            assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
            expected = vlad.describe(source[name]["descriptors"][()], book)
            np.testing.assert_array_equal(found, expected)
    assert sorted(p.name for p in path.parent.iterdir()) == ["global.codebook.npz", "global.h5"]


def test_the_packaged_conf(features: Path, tmp_path: Path) -> None:
    conf = find_conf("global", "disk-vlad")
    assert conf["output"] == "global-feats-disk-vlad"
    path = describe.main(conf, features, tmp_path / "global.h5")
    assert contents(path)["query.jpg"].shape == (64 * 128 + 1,)
    assert conf["model"] == {"name": "disk_vlad", **vlad.DEFAULT_CONF}


def test_two_runs_give_the_same(features: Path, tmp_path: Path) -> None:
    first = contents(describe.main(CONF, features, tmp_path / "a.h5"))
    second = contents(describe.main(CONF, features, tmp_path / "b.h5"))
    for name in NAMES:
        np.testing.assert_array_equal(first[name], second[name])


def test_images_added_later_are_described_with_the_same_codebook(
    features: Path, tmp_path: Path
) -> None:
    path = describe.main(CONF, features, tmp_path / "global.h5")
    before, book = contents(path), read_codebook(codebook_path(path))
    with h5py.File(path, "a") as file:
        file["query.jpg"].attrs["kept"] = True
    add(features, "later.jpg", 400)
    describe.main(CONF, features, path)
    np.testing.assert_array_equal(read_codebook(codebook_path(path)), book)
    after = contents(path)
    assert list(after) == sorted([*NAMES, "later.jpg"])
    with h5py.File(path) as file, h5py.File(features) as source:
        assert file["query.jpg"].attrs["kept"]
        expected = vlad.describe(source["later.jpg"]["descriptors"][()], book)
    np.testing.assert_array_equal(after["later.jpg"], expected)
    describe.main(CONF, features, path, overwrite=True)
    assert not np.array_equal(read_codebook(codebook_path(path)), book)
    assert not np.array_equal(contents(path)["query.jpg"], before["query.jpg"])


def test_a_stopped_run_resumes(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(describe.main(CONF, features, tmp_path / "whole.h5"))
    calls = 0

    def stopping(*arguments: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return vlad.describe(*arguments)

    monkeypatch.setattr(describe, "describe", stopping)
    with pytest.raises(KeyboardInterrupt):
        describe.main(CONF, features, tmp_path / "global.h5")
    assert not (tmp_path / "global.h5").exists()
    resumed = contents(describe.main(CONF, features, tmp_path / "global.h5"))
    assert calls == 5
    assert list(resumed) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(resumed[name], whole[name])


def test_a_given_codebook_is_used_and_kept(features: Path, tmp_path: Path) -> None:
    book = np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32)
    write_codebook(tmp_path / "mine.npz", book)
    path = describe.main(CONF, features, tmp_path / "global.h5", codebook=tmp_path / "mine.npz")
    np.testing.assert_array_equal(read_codebook(codebook_path(path)), book)
    with h5py.File(features) as source:
        expected = vlad.describe(source["query.jpg"]["descriptors"][()], book)
    np.testing.assert_array_equal(contents(path)["query.jpg"], expected)
    # A resumed run keeps it, whether it is given again or not; another codebook is refused.
    describe.main(CONF, features, path, codebook=tmp_path / "mine.npz")
    describe.main(CONF, features, path)
    write_codebook(tmp_path / "other.npz", book + 1)
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, features, path, codebook=tmp_path / "other.npz")
    assert one_line_error(error, path, "another", "--overwrite")
    np.testing.assert_array_equal(read_codebook(codebook_path(path)), book)
    describe.main(CONF, features, path, codebook=tmp_path / "other.npz", overwrite=True)
    np.testing.assert_array_equal(read_codebook(codebook_path(path)), book + 1)


def test_a_codebook_of_many_images_is_learnt_from_a_part(
    features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe, "MIN_PER_IMAGE", 30)
    shapes = {name: (128, 50 + i) for i, name in enumerate(NAMES)}
    broken = describe._Broken(stop=True)
    sample = describe._sample(features, shapes, 70, 0, broken)
    assert sample.shape == (70, 128)
    with h5py.File(features) as source:
        owners = [
            name
            for row in sample
            for name in NAMES
            if (row == source[name]["descriptors"][()].T).all(axis=1).any()
        ]
    assert sorted(owners.count(name) for name in set(owners)) == [10, 30, 30]
    assert len(np.unique(sample, axis=0)) == 70
    everything = describe._sample(features, shapes, 1000, 0, broken)
    assert len(everything) == sum(count for _, count in shapes.values())


def test_an_image_without_features_is_zero_and_named(
    features: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(features, "black.jpg", 0)
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        path = describe.main(CONF, features, tmp_path / "global.h5")
    assert [record.getMessage() for record in caplog.records] == [
        "1 images have no features, so their descriptor is zero and retrieves nothing: black.jpg"
    ]
    np.testing.assert_array_equal(contents(path)["black.jpg"], np.zeros(641, np.float32))


def refused(error: pytest.ExceptionInfo[Exception], output: Path, *parts: object) -> None:
    assert one_line_error(error, *parts)
    assert not output.exists()
    assert not codebook_path(output).exists()


@pytest.mark.parametrize("shape", [(5, 64), (6, 128)])
def test_a_codebook_that_does_not_fit(
    features: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    book, output = tmp_path / "book.npz", tmp_path / "global.h5"
    write_codebook(book, np.ones(shape, np.float32))
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, features, output, codebook=book)
    refused(error, output, book, f"{shape[0]} clusters of length {shape[1]}", features, "128")


def write_text(path: Path) -> None:
    path.write_text("no codebook")


def write_other_arrays(path: Path) -> None:
    np.savez(path, means=np.ones((5, 128)))


def write_flat(path: Path) -> None:
    np.savez(path, centres=np.ones(5))


def write_not_finite(path: Path) -> None:
    np.savez(path, centres=np.full((5, 128), np.nan))


def write_objects(path: Path) -> None:
    np.savez(path, centres=np.array([{}, {}], dtype=object))


def write_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones((5, 128)))


def write_cut(path: Path) -> None:
    write_codebook(path, np.ones((5, 128), np.float32))
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    "write",
    [
        Path.mkdir,
        Path.touch,
        write_text,
        write_other_arrays,
        write_flat,
        write_not_finite,
        write_objects,
        write_array,
        write_cut,
        lambda path: None,
    ],
)
def test_files_that_are_not_codebooks(features: Path, tmp_path: Path, write: Any) -> None:
    book, output = tmp_path / "book.npz", tmp_path / "global.h5"
    write(book)
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, features, output, codebook=book)
    refused(error, output, book, "codebook", "centres" if book.exists() else "No such file")


def test_features_that_cannot_be_described(features: Path, tmp_path: Path) -> None:
    output = tmp_path / "global.h5"
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, tmp_path / "absent.h5", output)
    refused(error, output, "no file", tmp_path / "absent.h5")
    add(tmp_path / "mixed.h5", "a.jpg", 20)
    add(tmp_path / "mixed.h5", "b.jpg", 20, length=256)
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, tmp_path / "mixed.h5", output)
    refused(error, output, "mixed.h5", "128 of a.jpg", "256 of b.jpg")
    with h5py.File(features, "a") as file:
        del file["db/2.jpg/descriptors"]
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, features, output)
    refused(error, output, features, "db/2.jpg", "no descriptors")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, tmp_path / "empty.h5", output)
    refused(error, output, "empty.h5", "no features")
    add(tmp_path / "few.h5", "a.jpg", 4)
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, tmp_path / "few.h5", output)
    refused(error, output, "5 clusters", "4 descriptors")


def test_other_files_are_not_changed(features: Path, tmp_path: Path) -> None:
    before = features.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(DiskHlocError) as error:
            describe.main(CONF, features, features, overwrite=overwrite)
        assert one_line_error(error, "its own input", features)
    other = tmp_path / "matches.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("a.jpg/b.jpg/matches0", data=[0])
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, features, other)
    assert one_line_error(error, other, "something else", "another file")
    # Descriptors of another model, without a codebook.
    with h5py.File(tmp_path / "netvlad.h5", "w") as file:
        file.create_dataset("a.jpg/global_descriptor", data=np.ones(4096))
    with pytest.raises(DiskHlocError) as error:
        describe.main(CONF, features, tmp_path / "netvlad.h5")
    assert one_line_error(error, "netvlad.h5", "has no netvlad.codebook.npz")
    assert features.read_bytes() == before
    assert not list(tmp_path.glob("*.npz"))


def test_another_conf_or_model(features: Path, tmp_path: Path) -> None:
    path = describe.main(CONF, features, tmp_path / "global.h5")
    with pytest.raises(DiskHlocError) as error:
        describe.main({"model": {**CONF["model"], "clusters": 6}}, features, path)
    assert one_line_error(error, codebook_path(path), "5 clusters", "asks for 6", "--overwrite")
    with pytest.raises(DiskHlocError) as error:
        describe.main({"model": {**CONF["model"], "seed": 1}}, features, path)
    assert one_line_error(error, path, "another conf")
    with pytest.raises(DiskHlocError) as error:
        describe.main({"model": {"name": "netvlad"}}, features, path)
    assert one_line_error(error, "'netvlad'", "known: disk_vlad")


def test_a_codebook_is_learnt_again_of_other_features(features: Path, tmp_path: Path) -> None:
    def made(name: str) -> tuple[bytes, bytes]:
        path = describe.main(CONF, features, tmp_path / name, relearn=True)
        return path.read_bytes(), codebook_path(path).read_bytes()

    first = made("global.h5")
    time = (tmp_path / "global.h5").stat().st_mtime_ns
    assert made("global.h5") == first
    assert (tmp_path / "global.h5").stat().st_mtime_ns == time
    add(features, "another.jpg", 70)
    second = made("global.h5")
    assert second[1] != first[1]
    assert second == made("fresh.h5")
    # A run was killed when it had saved the new codebook.
    (tmp_path / "global.h5").write_bytes(first[0])
    assert made("global.h5") == second
    # Another conf.
    path = describe.main(
        {"output": "global", "model": {"name": "disk_vlad", "clusters": 4}},
        features, tmp_path / "global.h5", relearn=True,
    )  # fmt: skip
    assert read_codebook(codebook_path(path)).shape == (4, 128)


def test_descriptors_are_removed_with_what_belongs_to_them(features: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    describe.main(CONF, features, tmp_path / "global.h5")
    journal_path(tmp_path / "global.h5").touch()
    describe.remove(tmp_path / "global.h5")
    describe.remove(tmp_path / "global.h5")
    assert set(tmp_path.iterdir()) == before
