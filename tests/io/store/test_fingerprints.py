"""What entries were made of: it is stored with them, and decides what is computed again."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.io.store import fingerprints, join, reading, writing
from disk_hloc.io.store.journal import Dataset
from disk_hloc.io.store.plan import plan

CONF = {"model": {"name": "disk"}, "format": 2}


def entry(name: str, value: int) -> list[Dataset]:
    array = np.full((value % 4, 2), value, np.float32)
    return [Dataset(f"{name}/keypoints", array, {"uncertainty": 0.5})]


def write(path: Path, values: dict[str, int], drop: tuple[str, ...] = ()) -> None:
    with writing(path, CONF) as store:
        store.drop(drop)
        for name, value in values.items():
            store.add(name, entry(name, value), f"input{value}")


def read(path: Path) -> dict[str, fingerprints.Fingerprint | None]:
    with writing(path, CONF) as store:
        return store.entries("keypoints")


def test_an_entry_has_its_fingerprint_in_the_journal_and_in_the_file(tmp_path):
    path = tmp_path / "f.h5"
    with pytest.raises(KeyboardInterrupt), writing(path, CONF) as store:  # noqa: PT012
        store.add("a/b.jpg", entry("a/b.jpg", 3), "photo mask")
        raise KeyboardInterrupt
    with writing(path, CONF) as store:
        left = store.entries("keypoints")
    assert left == read(path)
    found = left["a/b.jpg"]
    assert found is not None
    assert found.inputs == "photo mask"
    assert found.content == fingerprints.content_of("a/b.jpg", entry("a/b.jpg", 3))


def test_the_content_is_that_of_the_arrays_and_not_of_the_name():
    assert fingerprints.content_of("a", entry("a", 1)) == fingerprints.content_of(
        "b", entry("b", 1)
    )
    assert fingerprints.content_of("a", entry("a", 1)) != fingerprints.content_of(
        "a", entry("a", 5)
    )
    small = [Dataset("a/keypoints", np.full((1, 2), 1, np.float16))]
    assert fingerprints.content_of("a", entry("a", 1)) != fingerprints.content_of("a", small)


def test_hloc_sees_the_entries_as_before(tmp_path):
    path = tmp_path / "f.h5"
    write(path, {"a/b.jpg": 3})
    # As hloc's list_h5_names does.
    names = []
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda _, item: (
                names.append(item.parent.name.strip("/"))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    assert names == ["a/b.jpg"]


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "e"]), st.integers(1, 9)),
            st.sets(st.sampled_from(["a", "b/c", "b/d", "e"])),
        ),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_a_file_is_the_same_to_the_bit_however_many_runs_made_it(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("runs")
    state: dict[str, int] = {}
    for values, drop in runs:
        dropped = drop - values.keys()
        write(folder / "many.h5", values, tuple(dropped))
        state = {name: v for name, v in {**state, **values}.items() if name not in dropped}
    write(folder / "many.h5", {})
    write(folder / "once.h5", state)
    assert (folder / "many.h5").read_bytes() == (folder / "once.h5").read_bytes()


def test_joined_parts_are_the_same_to_the_bit(tmp_path):
    write(tmp_path / "all.h5", {"a": 1, "b": 2, "c": 3})
    write(tmp_path / "joined.h5", {"a": 7, "b": 2, "x": 4})
    write(tmp_path / "1.h5", {"c": 3})
    write(tmp_path / "2.h5", {"a": 1})
    join(tmp_path / "joined.h5", [tmp_path / "1.h5", tmp_path / "2.h5"], "keypoints", drop=["x"])
    assert (tmp_path / "joined.h5").read_bytes() == (tmp_path / "all.h5").read_bytes()


def test_what_another_program_put_into_a_file_stays(tmp_path):
    path = tmp_path / "f.h5"
    write(path, {"a": 1, "b": 2})
    with h5py.File(path, "a") as file:
        file["theirs/keypoints"] = np.zeros((2, 2))
        file["theirs"].attrs["note"] = "mine"
    write(path, {"a": 3}, drop=("b",))
    with reading(path) as file:
        assert file["theirs"].attrs["note"] == "mine"
        assert sorted(file) == ["a", "theirs"]
        assert file["a/keypoints"][0, 0] == 3
    assert read(path)["theirs"] is None


def test_a_group_that_hloc_wrote_again_has_no_fingerprint(tmp_path):
    path = tmp_path / "f.h5"
    write(path, {"a": 1})
    with h5py.File(path, "a") as file:
        del file["a"]
        file["a/keypoints"] = np.zeros((2, 2))
    assert read(path) == {"a": None}


@pytest.mark.parametrize("value", [5, "text of variable length", np.arange(3), b"\xff\xfe"])
def test_an_attribute_that_is_not_ours_is_no_fingerprint(tmp_path, value):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["a/keypoints"] = np.zeros((2, 2))
        file["a"].attrs[fingerprints.ATTRIBUTE.decode()] = value
    found = read(path)["a"]
    assert found is None or isinstance(found.inputs, str)


def test_only_what_changed_is_planned_and_said(caplog):
    caplog.set_level("INFO", logger="disk_hloc")
    entries = {
        "same": fingerprints.Fingerprint("x", "p1 -"),
        "photo": fingerprints.Fingerprint("x", "p2 -"),
        "photo2": fingerprints.Fingerprint("x", "p2 -"),
        "mask": fingerprints.Fingerprint("x", "p1 m1"),
        "broken": fingerprints.Fingerprint("x", "p1 -"),
        "theirs": None,
        "gone": fingerprints.Fingerprint("x", "p1 -"),
    }
    now = {"same": "p1 -", "photo": "p3 -", "photo2": "p4 -", "mask": "p1 m2"}
    names = ["new", "same", "photo", "photo2", "mask", "broken", "theirs"]
    found = plan(
        Path("f.h5"), names, entries, lambda name, _: now.get(name),
        kinds=("photos", "masks"), unit="image", verb="extract",
    )  # fmt: skip
    found.log()
    assert found.todo == ["new", "photo", "photo2", "mask", "broken"]
    assert found.gone == {"gone"}
    assert found.changed == {"photo", "photo2", "mask", "broken"}
    assert "3 photos changed, 1 mask changed, 1 is new, 1 is gone: 5 of 7 to extract" in caplog.text
    assert "1 of the images in f.h5 have no record" in caplog.text
