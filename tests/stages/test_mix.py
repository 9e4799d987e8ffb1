"""Features and matches of several extractors in one file, in hloc's format."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.digests import digest_of_data
from disk_hloc.io.hloc.features import feature_entry, features_digests, read_keypoints
from disk_hloc.io.hloc.matches import (
    match_entry,
    match_inputs,
    names_to_pair,
    pair_group,
    read_matches,
    require_made_of,
)
from disk_hloc.io.hloc.pairs import Pair, write_pairs
from disk_hloc.io.store import reading, writing
from disk_hloc.stages import match, mix
from support.errors import one_line_error
from support.hloc_files import write_features, write_matches

SIZE = (640, 480)
IMAGES = ["a.jpg", "b/c.jpg", "d.jpg"]
PAIRS: list[Pair] = [("a.jpg", "b/c.jpg"), ("d.jpg", "a.jpg"), ("b/c.jpg", "d.jpg")]


def drawn_features(seed: int, count: int, size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 9, count).astype(np.float32)
    return {
        "keypoints": rng.uniform(0, 400, (count, 2)).astype(np.float32),
        "keypoint_scores": scores,
        "scores": scores,
        "descriptors": np.ones((4 + seed % 3, count), np.float16),
        "image_size": np.array(size),
    }


def drawn_matches(seed: int, counts: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one matches of about half of the keypoints."""
    rng = np.random.default_rng(seed)
    matched = min(counts) // 2
    matches0, scores0 = np.full(counts[0], -1), np.zeros(counts[0])
    chosen = rng.permutation(counts[0])[:matched]
    matches0[chosen] = rng.permutation(counts[1])[:matched]
    scores0[chosen] = rng.uniform(0.1, 1, matched)
    return matches0, scores0


class Parts:
    """Features and matches of some extractors in a folder, as our stages write them.

    Attributes:
        files: of each part.
        pairs: the pairs file.
    """

    def __init__(self, folder: Path, counts: Sequence[dict[str, int]]) -> None:
        self.folder = folder
        self.counts = [dict(part) for part in counts]
        self.files = [(folder / f"f{i}.h5", folder / f"m{i}.h5") for i in range(len(counts))]
        self.pairs = folder / "pairs.txt"
        self.pairs.write_text("".join(f"{a} {b}\n" for a, b in PAIRS))
        # What makes an image or a pair another; None takes it out of a part.
        self.seeds: dict[tuple[int, str] | tuple[int, Pair], int | None] = {}
        self.write()

    def write(self, overwrite: bool = False) -> None:
        for i, (features, matches) in enumerate(self.files):
            images = [name for name in self.counts[i] if self.seed(i, name) is not None]
            with writing(features, {"extractor": i}, overwrite=True) as store:
                for name in images:
                    seed = self.seed(i, name)
                    arrays = drawn_features(seed, self.counts[i][name])
                    store.add(*feature_entry(name, arrays, 1.5 + i), digest_of_data(seed))
            digests = features_digests(features, images)
            with writing(matches, {"matcher": i}, overwrite=True) as store:
                for pair in PAIRS:
                    seed = self.seed(i, pair)
                    if seed is None or not set(pair) <= set(images):
                        continue
                    # The second part has its pairs the other way around.
                    stored = pair[::-1] if i == 1 else pair
                    counts = self.counts[i][stored[0]], self.counts[i][stored[1]]
                    inputs = match_inputs((digests[stored[0]], digests[stored[1]]))
                    group = names_to_pair(*stored)
                    store.add(*match_entry(group, *drawn_matches(seed, counts)), inputs)

    def seed(self, i: int, key: str | Pair) -> int | None:
        index = IMAGES.index(key) if isinstance(key, str) else PAIRS.index(key)
        return self.seeds.get((i, key), 10 * i + index)

    def join(self, output: str = "joined", *, pairs: Path | None = None) -> tuple[Path, Path]:
        features = self.folder / output / "features.h5"
        matches = self.folder / output / "matches.h5"
        mix.join_features(self.files, features)
        mix.join_matches(self.files, pairs or self.pairs, features, matches)
        return features, matches


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path, [dict.fromkeys(IMAGES, 8), {"a.jpg": 5, "b/c.jpg": 7, "d.jpg": 6}])


def places(features: Path, matches: Path, pair: Pair) -> set[tuple[float, ...]]:
    """The coordinates of both ends of each match."""
    with reading(features) as file, reading(matches) as other:
        found = read_matches(other, *pair)
        if found is None:
            return set()
        ends = [read_keypoints(file, name)[found[:, i]] for i, name in enumerate(pair)]
    return {tuple(map(float, row)) for row in np.concatenate(ends, axis=1)}


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(IMAGES), st.integers(0, 9), min_size=0),
        min_size=0,
        max_size=2,
    ),
    st.sets(st.tuples(st.integers(0, 2), st.sampled_from(PAIRS))),
)
def test_matches_join_the_same_places_as_in_their_parts(
    others: list[dict[str, int]], missing: set[tuple[int, Pair]]
) -> None:
    """Whatever the other parts have of the first part's images, and the parts of the pairs."""
    with TemporaryDirectory() as folder:
        parts = Parts(Path(folder), [dict.fromkeys(IMAGES, 6), *others])
        # A pair that no part has would be refused.
        parts.seeds.update(dict.fromkeys((one for one in missing if one[0] > 0), None))
        parts.write()
        features, matches = parts.join()
        for pair in PAIRS:
            expected = set.union(*(places(*files, pair) for files in parts.files))
            assert places(features, matches, pair) == expected
            assert len(expected) >= 3


def test_joined_files_have_hlocs_format_and_no_descriptors(parts: Parts) -> None:
    features, matches = parts.join()
    with h5py.File(features) as file, h5py.File(parts.files[1][0]) as second:
        assert set(file["b"]["c.jpg"]) == {"keypoints", "keypoint_scores", "scores", "image_size"}
        group = file["b"]["c.jpg"]
        assert group["keypoints"].shape == (15, 2)
        assert group["keypoints"].dtype == group["scores"].dtype == np.float32
        assert group["keypoints"].attrs["uncertainty"] == 2.5
        assert list(group["image_size"]) == [640, 480]
        np.testing.assert_array_equal(group["scores"], group["keypoint_scores"])
        np.testing.assert_array_equal(group["scores"][8:], second["b"]["c.jpg"]["scores"])
    with h5py.File(matches) as file, h5py.File(parts.files[1][1]) as second:
        group = file["a.jpg"]["b-c.jpg"]
        matches0 = group["matches0"][()]
        assert matches0.shape == group["matching_scores0"].shape == (13,)
        assert matches0.dtype == np.int16
        assert group["matching_scores0"].dtype == np.float16
        # Stored from b/c.jpg to a.jpg in the second part.
        reverse = second["b-c.jpg"]["a.jpg"]
        for index in np.flatnonzero(matches0[8:] >= 0):
            other = matches0[8 + index] - 8
            assert reverse["matches0"][other] == index
            assert group["matching_scores0"][8 + index] == reverse["matching_scores0"][other]
    require_made_of(matches, (features, features), PAIRS)


def test_indices_beyond_int16_are_kept(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [dict.fromkeys(IMAGES, 32_000), dict.fromkeys(IMAGES, 900)])
    features, matches = parts.join()
    for pair in PAIRS:
        expected = set.union(*(places(*files, pair) for files in parts.files))
        assert places(features, matches, pair) == expected
    with h5py.File(matches) as file:
        assert file["a.jpg"]["b-c.jpg"]["matches0"].dtype == np.int32


def test_only_what_has_changed_is_joined_again(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """And the files are those of joining once."""
    caplog.set_level(logging.INFO)
    parts.join()
    changes = [
        # What a part has of an image, of a pair.
        ({(1, "d.jpg"): 77}, "1 image changed: 1 of 3", "2 pairs changed: 2 of 3"),
        ({(0, PAIRS[0]): 78}, "All 3 images are up to date", "1 pair changed: 1 of 3"),
        ({(1, PAIRS[0]): None}, "All 3 images are up to date", "1 pair changed: 1 of 3"),
        ({(1, "a.jpg"): None}, "1 image changed: 1 of 3", "2 pairs changed: 2 of 3"),
        ({(1, "a.jpg"): 0, (1, PAIRS[0]): 3}, "1 image changed: 1 of 3", "2 pairs changed: 2 of 3"),
    ]
    for i, (seeds, *messages) in enumerate(changes):
        parts.seeds.update(seeds)
        parts.write()
        caplog.clear()
        many = parts.join()
        assert [record.message.removesuffix(" to join") for record in caplog.records] == messages
        once = parts.join(f"once{i}")
        for one, other in zip(many, once, strict=True):
            assert one.read_bytes() == other.read_bytes()


def test_what_is_gone_leaves_the_files(parts: Parts) -> None:
    parts.join()
    for i in range(2):
        parts.seeds[i, "d.jpg"] = None
    parts.write()
    parts.pairs.write_text("a.jpg b/c.jpg\n")
    many, once = parts.join(), parts.join("once")
    for one, other in zip(many, once, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with h5py.File(many[0]) as file:
        assert "d.jpg" not in file


def test_chosen_images_alone_are_joined(parts: Parts, tmp_path: Path) -> None:
    path = mix.join_features(parts.files, tmp_path / "some.h5", names=["b/c.jpg", "x.jpg"])
    with h5py.File(path) as file:
        assert list(file) == ["b"]


def test_other_parts_replace_a_joined_file(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was not finished."""
    joined = mix._joined_matches

    def interrupted(files, pair, sizes):
        if pair == PAIRS[1]:
            raise KeyboardInterrupt
        return joined(files, pair, sizes)

    both = list(parts.files)
    with monkeypatch.context() as patch:
        patch.setattr(mix, "_joined_matches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parts.join()
    for files in ([both[0]], both[::-1], both):
        parts.files = files
        many, once = parts.join(), parts.join(f"once{len(files)}{files[0][0].stem}")
        for one, other in zip(many, once, strict=True):
            assert one.read_bytes() == other.read_bytes()


def test_an_interrupted_run_resumes(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    once = parts.join("once")
    joined = mix._joined_features
    calls = []

    def interrupted(files, name):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return joined(files, name)

    monkeypatch.setattr(mix, "_joined_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parts.join()
    many = parts.join()
    assert calls == [*IMAGES, IMAGES[2]]
    for one, other in zip(many, once, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_parts_of_other_programs_are_joined(tmp_path: Path) -> None:
    """Features of hloc, some with one array of scores and without an uncertainty."""
    files = [(tmp_path / f"f{i}.h5", tmp_path / f"m{i}.h5") for i in range(2)]
    for features, matches in files:
        for i, name in enumerate(IMAGES):
            arrays = drawn_features(i, 6)
            del arrays["keypoint_scores"]
            write_features(features, name, arrays, 1)
            with h5py.File(features, "a") as file:
                del file[name]["keypoints"].attrs["uncertainty"]
        for pair in PAIRS:
            write_matches(matches, pair, *drawn_matches(7, (6, 6)))
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"{a} {b}\n" for a, b in PAIRS))
    features = mix.join_features(files, tmp_path / "features.h5")
    matches = mix.join_matches(files, pairs, features, tmp_path / "matches.h5")
    with h5py.File(features) as file:
        assert file["a.jpg"]["keypoints"].attrs["uncertainty"] == 1
    assert len(places(features, matches, PAIRS[0])) == 3
    # Of the same keypoints, one in the second part is matched otherwise.
    write_matches(files[1][1], PAIRS[0], *drawn_matches(8, (6, 6)))
    mix.join_matches(files, pairs, features, matches)
    expected = set.union(*(places(*one, PAIRS[0]) for one in files))
    assert places(features, matches, PAIRS[0]) == expected
    assert len(expected) > 3


def test_names_that_hloc_cannot_tell_apart_keep_their_own_matches(tmp_path: Path) -> None:
    names = ["a/b.jpg", "a-b.jpg", "my c.jpg"]
    listed = [(names[0], names[2]), (names[2], names[1]), (names[0], names[1])]
    files = [(tmp_path / f"f{i}.h5", tmp_path / f"m{i}.h5") for i in range(2)]
    for i, (features, matches) in enumerate(files):
        for j, name in enumerate(names):
            write_features(features, name, drawn_features(3 * i + j, 6), 1)
        with writing(matches, {}) as store:
            for j, pair in enumerate(listed):
                group = pair_group(*pair, alike=names[:2])
                store.add(*match_entry(group, *drawn_matches(3 * i + j, (6, 6))))
    pairs = tmp_path / "pairs.txt"
    write_pairs(pairs, listed)
    features = mix.join_features(files, tmp_path / "features.h5")
    matches = mix.join_matches(files, pairs, features, tmp_path / "matches.h5")
    for pair in listed:
        expected = set.union(*(places(*one, pair) for one in files))
        assert places(features, matches, pair) == expected
        assert len(expected) == 6


def test_joined_features_are_not_matched(parts: Parts, tmp_path: Path) -> None:
    features, _ = parts.join()
    for name in ("disk", "not-ours"):
        conf = {"output": "m", "model": {"name": name}}
        with pytest.raises(DiskHlocError) as error:
            match.main(conf, parts.pairs, features, tmp_path / "matches.h5")
        assert one_line_error(error, features, "no descriptors", "joins features of several")
    assert not (tmp_path / "matches.h5").exists()


def test_matches_of_features_that_have_changed_are_refused(parts: Parts, tmp_path: Path) -> None:
    features, matches = parts.join()
    parts.seeds[1, "d.jpg"] = 77
    parts.write()
    with pytest.raises(DiskHlocError) as error:
        mix.join_matches(parts.files, parts.pairs, features, matches)
    assert one_line_error(error, features, "other features of d.jpg", "join them again")
    mix.join_features(parts.files, features)
    with pytest.raises(DiskHlocError, match=r"other features of d\.jpg and a\.jpg"):
        require_made_of(matches, (features, features), PAIRS)
    with writing(parts.files[1][0], {"extractor": 1}) as store:
        store.add(*feature_entry("d.jpg", drawn_features(78, 6), 1), "changed")
    with pytest.raises(DiskHlocError) as error:
        mix.join_matches(parts.files, parts.pairs, features, matches)
    assert one_line_error(error, parts.files[1][1], "other features of d.jpg and a.jpg")


def test_a_pair_without_any_matches_is_refused(parts: Parts) -> None:
    for i in range(2):
        parts.seeds[i, PAIRS[1]] = None
    parts.write()
    with pytest.raises(DiskHlocError) as error:
        parts.join()
    assert one_line_error(error, *(path for _, path in parts.files), "d.jpg and a.jpg", "match")


def test_features_of_photos_of_other_sizes_are_refused(parts: Parts, tmp_path: Path) -> None:
    with writing(parts.files[1][0], {"extractor": 1}) as store:
        store.add(*feature_entry("d.jpg", drawn_features(3, 6, size=(640, 481)), 1), "changed")
    with pytest.raises(DiskHlocError) as error:
        parts.join()
    assert one_line_error(error, parts.files[1][0], "d.jpg in another size", "same photos")


@pytest.mark.parametrize("unfinished", [False, True])
def test_features_of_one_extractor_are_not_replaced(
    parts: Parts, tmp_path: Path, unfinished: bool
) -> None:
    path = tmp_path / "own.h5"
    if unfinished:
        with suppress(KeyboardInterrupt), writing(path, {"mine": 1}) as store:
            store.add(*feature_entry("a.jpg", drawn_features(1, 4), 1), "seen")
            raise KeyboardInterrupt
    else:
        write_features(path, "a.jpg", drawn_features(1, 4), 1)
    for refused in (lambda: mix.require_joined(path), lambda: mix.join_features(parts.files, path)):
        with pytest.raises(DiskHlocError) as error:
            refused()
        assert one_line_error(error, path, "not made by joining", "--overwrite")
    mix.join_features(parts.files, path, overwrite=True)
    mix.require_joined(path)
