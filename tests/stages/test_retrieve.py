"""Retrieval: hloc's pairs, whatever fits in memory, and images that cannot be paired."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import Pair, read_pairs
from disk_hloc.plugin import find_conf
from disk_hloc.stages import describe, extract, retrieve
from support.errors import one_line_error
from support.hloc_files import write_global


def drawn(names: list[str], seed: int = 0, length: int = 6) -> dict[str, np.ndarray]:
    """Random unit descriptors."""
    random = np.random.default_rng(seed)
    found = {name: random.normal(size=length).astype(np.float32) for name in names}
    return {name: vector / np.linalg.norm(vector) for name, vector in found.items()}


def write(path: Path, descriptors: Mapping[str, np.ndarray]) -> Path:
    for name, descriptor in descriptors.items():
        write_global(path, name, descriptor)
    return path


def lines(path: Path) -> list[Pair]:
    """Return the pairs as written; reading a pairs file would merge (a, b) and (b, a)."""
    return [(a, b) for a, b in (line.split() for line in path.read_text().splitlines())]


def hlocs_pairs(
    queries: Mapping[str, np.ndarray],
    database: Mapping[str, np.ndarray],
    count: int,
    min_score: float = 0.0,
) -> list[Pair]:
    """Return pairs by hloc's rule, query by query; zero descriptors are in no pair."""
    pairs = []
    for name, query in queries.items():
        scores = {
            other: float(query @ vector)
            for other, vector in database.items()
            if other != name and vector.any() and query.any() and query @ vector >= min_score
        }
        ranked = sorted(scores, key=lambda other: -scores[other])
        pairs += [(name, other) for other in ranked[:count]]
    return pairs


@given(
    num_queries=st.integers(1, 9),
    num_database=st.integers(2, 30),
    overlap=st.integers(0, 9),
    zeros=st.integers(0, 2),
    count=st.integers(1, 12),
    min_score=st.sampled_from([-1.0, 0.0, 0.3]),
    block=st.integers(1, 40),
    query_block=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_pairs_are_hlocs_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    num_queries: int,
    num_database: int,
    overlap: int,
    zeros: int,
    count: int,
    min_score: float,
    block: int,
    query_block: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("retrieve")
    images = drawn([f"{i:02}.jpg" for i in range(num_queries + num_database)], seed)
    names = sorted(images)
    for name in np.random.default_rng(seed).permutation(names)[:zeros]:
        images[name][:] = 0
    queries = {name: images[name] for name in names[:num_queries]}
    database = {name: images[name] for name in names[max(num_queries - overlap, 0) :]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieve, "DATABASE_BYTES", block * 24)
        patch.setattr(retrieve, "QUERY_BYTES", query_block * 24)
        arguments: Any = (write(folder / "global.h5", images), folder / "pairs.txt", count)
        options: Any = {
            "query_list": list(queries),
            "db_list": list(database),
            "min_score": min_score,
            "device": "cpu",
        }
        expected = hlocs_pairs(queries, database, count, min_score)
        if expected:
            assert lines(retrieve.main(*arguments, **options)) == expected
        else:
            with pytest.raises(DiskHlocError, match="no pair of"):
                retrieve.main(*arguments, **options)
            assert not (folder / "pairs.txt").exists()


IMAGES = drawn(["db/a.jpg", "db/b.jpg", "db/c.jpg", "night/d.jpg", "query/e.jpg", "query/f.jpg"])


@pytest.fixture
def described(tmp_path: Path) -> Path:
    return write(tmp_path / "global.h5", IMAGES)


@pytest.mark.parametrize(
    ("options", "queries", "database"),
    [
        ({}, "abcdef", "abcdef"),
        ({"query_prefix": "query/", "db_prefix": "db/"}, "ef", "abc"),
        ({"query_prefix": ["query/", "night"], "db_prefix": ("db/",)}, "def", "abc"),
        ({"query_list": ["query/f.jpg", "db/a.jpg", "query/f.jpg"]}, "fa", "abcdef"),
        ({"query_list": "LIST", "db_prefix": "db/"}, "ed", "abc"),
        ({"query_prefix": "db/b", "db_list": "LIST"}, "b", "ed"),
    ],
)
def test_queries_and_database_are_selected(
    described: Path, tmp_path: Path, options: dict[str, Any], queries: str, database: str
) -> None:
    (tmp_path / "list.txt").write_text("# names\nquery/e.jpg PINHOLE 4 4 1 1 2 2\n\nnight/d.jpg\n")
    options = {k: tmp_path / "list.txt" if v == "LIST" else v for k, v in options.items()}
    path = retrieve.main(described, tmp_path / "new" / "pairs.txt", 2, min_score=-1, **options)

    def named(letters: str) -> dict[str, np.ndarray]:
        return {n: IMAGES[n] for letter in letters for n in IMAGES if n[-5] == letter}

    assert lines(path) == hlocs_pairs(named(queries), named(database), 2, min_score=-1)
    assert read_pairs(path)


def test_the_database_may_be_in_several_files(described: Path, tmp_path: Path) -> None:
    day, night = drawn(["d/1", "d/2", "d/3"], seed=1), drawn(["n/1", "n/2"], seed=2)
    files = [write(tmp_path / "day.h5", day), write(tmp_path / "night.h5", night)]
    path = retrieve.main(
        described, tmp_path / "pairs.txt", 4, db_descriptors=files, min_score=-1, device="cpu"
    )
    assert lines(path) == hlocs_pairs(IMAGES, day | night, 4, min_score=-1)
    # In an order that alternates between the files.
    chosen = ["n/2", "d/3", "n/1"]
    retrieve.main(described, path, 4, db_descriptors=files, db_list=chosen, min_score=-1)
    every = day | night
    assert lines(path) == hlocs_pairs(IMAGES, {n: every[n] for n in chosen}, 4, min_score=-1)
    retrieve.main(described, path, 1, db_descriptors=files[1], min_score=-1)
    assert lines(path) == hlocs_pairs(IMAGES, night, 1, min_score=-1)
    with pytest.raises(DiskHlocError) as error:
        retrieve.main(described, path, 1, db_descriptors=[*files, files[0]])
    assert one_line_error(error, "day.h5", "both describe d/1, d/2, d/3")


def test_a_small_database_is_retrieved_completely(
    described: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "disk_hloc"):
        path = retrieve.main(described, tmp_path / "pairs.txt", 100, min_score=-1)
    assert len(lines(path)) == 6 * 5
    assert "100 images of each query were asked for, but the database has 6" in caplog.text


def test_zero_descriptors_and_lonely_queries_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    axis = np.eye(3, dtype=np.float32)
    images = {"a": axis[0], "b": axis[0], "black": 0 * axis[0], "c": axis[1], "dark": 0 * axis[0]}
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        path = retrieve.main(
            write(tmp_path / "global.h5", images),
            tmp_path / "pairs.txt",
            3,
            query_list=["a", "black", "c"],
            min_score=0.5,
        )
    assert lines(path) == [("a", "b")]
    assert [record.getMessage() for record in caplog.records] == [
        "2 images have no features, so their descriptor is zero and they are in no pair: "
        "black, dark",
        "1 queries have no image with a cosine of 0.5 or more: c",
    ]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"query_prefix": "Query"}, ["begins with Query", "db/a.jpg, db/b.jpg and 4 more"]),
        ({"db_prefix": ["db/", "day/"]}, ["begins with day/;"]),
        ({"db_prefix": []}, ["no image"]),
        (
            {"query_list": ["db/a.jpg", "x.jpg"]},
            ["1 of the 2 images asked for are not in", "x.jpg", "describe them"],
        ),
        ({"db_list": []}, ["0 of the 0 images"]),
        ({"db_list": Path("absent.txt")}, ["cannot read the image list absent.txt"]),
        ({"db_list": ["db/a.jpg"], "db_prefix": "db/"}, ["a prefix or a list", "not both"]),
        ({"num_matched": 0}, ["at least one pair, not 0"]),
        ({"query_list": ["db/a.jpg"], "db_list": ["db/a.jpg"]}, ["no pair of"]),
        ({"min_score": 1.5}, ["no pair of", "1.5"]),
    ],
)
def test_what_cannot_be_selected(
    described: Path, tmp_path: Path, options: dict[str, Any], parts: list[str]
) -> None:
    count = options.pop("num_matched", 2)
    with pytest.raises(DiskHlocError) as error:
        retrieve.main(described, tmp_path / "pairs.txt", count, **options)
    assert one_line_error(error, *parts)
    assert not (tmp_path / "pairs.txt").exists()


def test_files_that_cannot_be_used(described: Path, tmp_path: Path) -> None:
    def refused(*parts: object, **options: Any) -> None:
        with pytest.raises(DiskHlocError) as error:
            retrieve.main(described, tmp_path / "pairs.txt", 2, **options)
        assert one_line_error(error, *parts)

    refused("no file", "absent.h5", db_descriptors=tmp_path / "absent.h5")
    write(tmp_path / "longer.h5", drawn(["z"], length=7))
    refused("6 in", "7 in", "longer.h5", "two models", db_descriptors=tmp_path / "longer.h5")
    write(tmp_path / "mixed.h5", drawn(["y"]) | drawn(["z"], length=7))
    mixed: Any = {"db_descriptors": tmp_path / "mixed.h5"}
    refused("mixed.h5", "6 in", "7 in", **mixed)
    with pytest.raises(DiskHlocError) as error:
        retrieve.main(mixed["db_descriptors"], tmp_path / "pairs.txt", 1)
    assert one_line_error(error, "mixed.h5", "y and z differ", "(6, 7)")
    write(tmp_path / "nan.h5", {**drawn(["y"]), "z": np.full(6, np.nan, np.float32)})
    refused("nan.h5, z/global_descriptor", "not finite", db_descriptors=tmp_path / "nan.h5")
    write(tmp_path / "tab.h5", drawn(["my\tphoto.jpg"]))
    refused("photo.jpg", "tab", db_descriptors=tmp_path / "tab.h5")
    (tmp_path / "matches.h5").touch()
    refused("matches.h5", "HDF5", db_descriptors=tmp_path / "matches.h5")
    assert not (tmp_path / "pairs.txt").exists()


def test_photos_of_three_places_find_their_own(data: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for scene in ("reichstag", "sacre_coeur", "fountain_p11"):
        folder = images / scene
        folder.mkdir()
        for photo in (data / scene / "images").iterdir():
            (folder / photo.name).symlink_to(photo)
    conf = find_conf("extractors", "disk-2k")
    conf["model"]["max_keypoints"] = 1024
    conf["preprocessing"]["resize_max"] = 640
    features = extract.main(conf, images, tmp_path / "features.h5")
    path = describe.main(find_conf("global", "disk-vlad"), features, tmp_path / "global.h5")
    pairs = lines(retrieve.main(path, tmp_path / "pairs.txt", 4))
    assert len(pairs) == 31 * 4
    same = [a.split("/")[0] == b.split("/")[0] for a, b in pairs]
    assert np.mean(same) >= 0.98


def test_memory_does_not_grow_with_the_square_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path / "global.h5"
    for i, vector in enumerate(vectors):
        write_global(path, f"{i:02}.jpg", vector)
    retrieve.main(path, tmp_path / "whole.txt", 5)
    shapes = []
    merge = retrieve._merge
    monkeypatch.setattr(retrieve, "_merge", lambda *of: [shapes.append(of[2].shape), merge(*of)][1])
    monkeypatch.setattr(retrieve, "COSINE_BYTES", 4 * 50 * 7)
    retrieve.main(path, tmp_path / "parts.txt", 5)
    assert shapes == [(50, 7)] * 7 + [(50, 1)]
    assert (tmp_path / "parts.txt").read_text() == (tmp_path / "whole.txt").read_text()
