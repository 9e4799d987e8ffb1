"""Converting to another format and back keeps every name, number, type and order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from disk_hloc.convert import main
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.release import PIXEL_SIZE_ATTRIBUTE
from support.errors import one_line_error
from support.hloc_files import write_features, write_matches

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def contents(folder: Path) -> dict[str, Any]:
    """Return every dataset and group of every file."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:

            def note(name: str, item: Any, filename: str = path.name) -> None:
                found[f"{filename}:{name}"] = item[()] if isinstance(item, h5py.Dataset) else None

            file.visititems(note)
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
        if values is not None:
            assert values.dtype == other[name].dtype, name


@st.composite
def released(draw: Any) -> tuple[dict[str, dict[str, np.ndarray]], dict[tuple[str, str], Any]]:
    """Features by kind and image, and matches sorted by the first image's keypoints."""
    names = draw(
        st.lists(
            st.text("abz09-_. ü", min_size=1, max_size=5).filter(
                lambda name: not name.startswith(".") and not name.endswith(".") and " " not in name
            ),
            min_size=2, max_size=4, unique=True,
        )
    )  # fmt: skip
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    counts = {name: draw(st.integers(0, 50)) for name in names}
    scale = np.float32(draw(st.sampled_from([1.0, 0.7225, 0.31, 1.9])))
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    features = {
        "keypoints": {n: rng.integers(0, 999, (c, 2)) / scale for n, c in counts.items()},
        "descriptors": {n: rng.normal(size=(c, 8)) for n, c in counts.items()},
    }
    for kind, stored in (("keypoints", np.float32), ("descriptors", dtype)):
        features[kind] = {n: values.astype(stored) for n, values in features[kind].items()}
    for kind in draw(st.sets(st.sampled_from(["scores", "scales", "orientations"]))):
        features[kind] = {n: rng.normal(size=c).astype("f4") for n, c in counts.items()}
    index_type = draw(st.sampled_from([np.int64, np.uint16, np.int32]))
    matches = {}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            most = min(counts[first], counts[second])
            if draw(st.booleans()):
                count = draw(st.integers(0, most))
                pair = [np.sort(rng.permutation(counts[first])[:count]),
                        rng.permutation(counts[second])[:count]]  # fmt: skip
                matches[first, second] = np.stack(pair).astype(index_type)
    return features, matches


def write(folder: Path, features: Any, matches: Any, key: str = "{}/{}") -> Path:
    folder.mkdir()
    for kind, arrays in features.items():
        with h5py.File(folder / f"{kind}.h5", "w") as file:
            for name, values in arrays.items():
                file[name] = values
    with h5py.File(folder / "matches.h5", "w") as file:
        for name in features["keypoints"] if "/" in key else ():
            file.create_group(name)
        for (first, second), values in matches.items():
            file[key.format(first, second)] = values
    return folder


@SETTINGS
@given(case=released())
def test_release_to_hloc_and_back(tmp_path_factory: pytest.TempPathFactory, case) -> None:
    root = tmp_path_factory.mktemp("case")
    source = write(root / "source", *case)
    (root / "photos").mkdir()
    for name in case[0]["keypoints"]:
        Image.new("RGB", (32, 16)).save(root / "photos" / f"{name}.jpg")
    main("release", "hloc", source, root / "hloc", image_dir=root / "photos")
    main("hloc", "release", root / "hloc", root / "back")
    assert_same(contents(source), contents(root / "back"))
    # And again, from the converted files.
    main("release", "hloc", root / "back", root / "again")
    assert_same(contents(root / "hloc"), contents(root / "again"))


@SETTINGS
@given(case=released())
def test_release_to_imc_and_back(tmp_path_factory: pytest.TempPathFactory, case) -> None:
    root = tmp_path_factory.mktemp("case")
    source = write(root / "source", *case)
    try:
        main("release", "imc", source, root / "imc")
    except DiskHlocError as error:
        assume("is ambiguous" not in str(error))
        raise
    with h5py.File(root / "imc" / "matches.h5") as file:
        assert set(file) == {"-".join(sorted(pair, reverse=True)) for pair in case[1]}
        for (first, second), matches in case[1].items():
            pair = matches if first > second else matches[::-1]
            key = "-".join(sorted((first, second), reverse=True))
            np.testing.assert_array_equal(file[key][()], pair)
    main("imc", "release", root / "imc", root / "back")
    assert_same(contents(source), contents(root / "back"))


@pytest.mark.parametrize(
    "path", [("release",), ("hloc",), ("hloc", "release"), ("release", "hloc")]
)
@pytest.mark.parametrize("key", ["{1}-{0}", "{0}-{1}"])
def test_imc_and_back(tmp_path: Path, path, key) -> None:
    """The order of names in this format, and the opposite, which benchmarks do not read."""
    rng = np.random.default_rng(0)
    features = {"keypoints": {n: rng.uniform(0, 9, (6, 2)) for n in ("a-1", "b-1-c")}}
    # hloc's format has its own order.
    columns = [[0, 3, 5], [1, 2, 4]] if "hloc" in path else [[3, 0, 5], [1, 4, 2]]
    matches = {("a-1", "b-1-c"): np.array(columns, np.uint32)}
    source = write(tmp_path / "0", features, matches, key)
    for name in features["keypoints"]:
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    steps = ["imc", *path, "imc"]
    for i, (one, other) in enumerate(pairwise(steps)):
        main(one, other, tmp_path / f"{i}", tmp_path / f"{i + 1}", image_dir=tmp_path)
    assert_same(contents(source), contents(tmp_path / f"{len(steps) - 1}"))


@pytest.mark.parametrize("through", ["release", "imc"])
def test_hloc_and_back(tmp_path: Path, through: str) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / "hloc"
    source.mkdir()
    for name, count in (("z.jpg", 5), ("a.png", 7), ("m.jpeg", 0)):
        scores = rng.normal(size=count).astype(np.float16)
        features = {
            "keypoints": rng.uniform(0, 100, (count, 2)).astype(np.float32),
            "keypoint_scores": scores,
            "scores": scores,
            "descriptors": rng.normal(size=(128, count)).astype(np.float16),
            "image_size": np.array([640, 480]),
        }
        write_features(source / "features.h5", name, features, 1.5)
    write_matches(source / "matches.h5", ("z.jpg", "a.png"),
                  np.array([-1, 6, 2, -1, 0]), np.array([0, 0.5, 0.75, 0, 1]))  # fmt: skip
    main("hloc", through, source, tmp_path / "there")
    found = contents(tmp_path / "there")
    key = "z/a" if through == "release" else "z-a"
    assert found[f"matches.h5:{key}"].tolist() == [[1, 2, 4], [6, 2, 0]]
    assert found[f"matching_scores.h5:{key}"].tolist() == [0.5, 0.75, 1]
    # No photos are needed, since extensions and image sizes are stored in the files.
    main(through, "hloc", tmp_path / "there", tmp_path / "back")
    assert_same(contents(source), contents(tmp_path / "back"))
    assert (tmp_path / "back" / "pairs.txt").read_text() == "z.jpg a.png\n"
    with h5py.File(tmp_path / "back" / "features.h5") as file:
        assert file["z.jpg"]["keypoints"].attrs["uncertainty"] == 1.5


def test_hlocs_keypoints_are_at_the_centres_of_pixels(tmp_path: Path) -> None:
    features = {"keypoints": {"a": np.array([[0, 4], [8, 12]], np.float32)}}
    source = write(tmp_path / "release", features, {})
    with h5py.File(source / "keypoints.h5", "a") as file:
        file["a"].attrs[PIXEL_SIZE_ATTRIBUTE] = 4.0
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg")
    main("release", "hloc", source, tmp_path / "hloc", image_dir=tmp_path)
    with h5py.File(tmp_path / "hloc" / "features.h5") as file:
        # The centre of pixel n with a width of four pixels is at 4 n + 1.5.
        assert file["a.jpg"]["keypoints"][()].tolist() == [[1.5, 5.5], [9.5, 13.5]]
    main("release", "hloc", source, tmp_path / "raw", image_dir=tmp_path, release_origin=True)
    with h5py.File(tmp_path / "raw" / "features.h5") as file:
        assert file["a.jpg"]["keypoints"][()].tolist() == [[0, 4], [8, 12]]
    main("hloc", "release", tmp_path / "raw", tmp_path / "back")
    assert_same(contents(source), contents(tmp_path / "back"))


def test_errors(tmp_path: Path) -> None:
    names = ("a", "b")
    features = {"keypoints": {name: np.zeros((4, 2), np.float32) for name in names}}
    twice = np.array([[0, 0, 1], [1, 2, 3]])
    source = write(tmp_path / "release", features, {("a", "b"): twice})

    def fails(one: str, other: str, folder: Path, *parts: object, **options: Any) -> None:
        target = options.pop("target", tmp_path / "out")
        with pytest.raises(DiskHlocError) as error:
            main(one, other, folder, target, **options)
        one_line_error(error, *parts)
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".*"))

    fails("release", "hloc", source, "'a'", "--images")
    fails("release", "hloc", source, "no such photo", image_dir=tmp_path)
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.jpg")
    fails("release", "hloc", source, "several matches", image_dir=tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    fails("release", "hloc", source, "a.jpg, a.png", image_dir=tmp_path)
    fails("release", "sift", source, "release, imc, hloc")
    fails("imc", "release", source, "a is a group")
    fails("hloc", "release", source, source / "features.h5")
    fails("release", "imc", tmp_path / "absent", "keypoints.h5")
    fails("release", "imc", source, "folder to convert from", target=source)
    both = write(tmp_path / "both", features, dict.fromkeys((("a", "b"), ("b", "a")), twice))
    fails("release", "imc", both, "in both orders")
    imc = write(tmp_path / "imc", features, {("b", "a"): twice}, "{}-{}")
    fails("release", "imc", imc, "not in the format of DISK's release")
    beyond = write(tmp_path / "beyond", features, {("b", "a"): twice + 2}, "{}-{}")
    fails("imc", "release", beyond, "b-a", "other features")
    other = write(tmp_path / "other", features, {("b", "c"): twice}, "{}-{}")
    fails("imc", "release", other, "'b-c'", "not consist of two images")
    main("imc", "release", imc, tmp_path / "there")
    fails("imc", "release", imc, "keypoints.h5", "--overwrite", target=tmp_path / "there")
    main("imc", "release", imc, tmp_path / "there", overwrite=True)
    (tmp_path / "there" / "scores.h5").touch()
    remains = {"target": tmp_path / "there", "overwrite": True}
    fails("imc", "release", imc, "scores.h5", "mix", **remains)

    def hloc(folder: str, *stored: str) -> Path:
        (tmp_path / folder).mkdir()
        for name in stored:
            arrays = {"keypoints": np.zeros((1, 2)), "image_size": np.array([4, 4])}
            write_features(tmp_path / folder / "features.h5", name, arrays, 1)
        return tmp_path / folder

    grouped = hloc("h0", "a.jpg")
    (grouped / "features.h5").rename(grouped / "keypoints.h5")
    fails("release", "imc", grouped, "a.jpg is a group")
    fails("hloc", "release", hloc("h1", "db/a.jpg"), "db/a.jpg")
    fails("hloc", "release", hloc("h2", "a.jpg", "a.png"), "a.jpg", "a.png")


def test_names_that_are_ambiguous_because_of_hyphens(tmp_path: Path) -> None:
    keypoints = {name: np.zeros((1, 2), np.float32) for name in ("a", "a-b", "b-c", "c")}
    source = write(tmp_path / "0", {"keypoints": keypoints}, {("a", "b-c"): np.zeros((2, 1), int)})
    # In reverse order "b-c-a" has one meaning, while "a-b-c" would have two.
    main("release", "imc", source, tmp_path / "1")
    with h5py.File(tmp_path / "1" / "matches.h5", "a") as file:
        file.move("b-c-a", "a-b-c")
    with pytest.raises(DiskHlocError) as error:
        main("imc", "release", tmp_path / "1", tmp_path / "2")
    one_line_error(error, "'a-b-c'", "is ambiguous")
