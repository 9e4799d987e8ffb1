"""The pairs file: round trip, and names that it cannot hold."""

from __future__ import annotations

from itertools import combinations
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import (
    from_line,
    nearby_order,
    read_pairs,
    require_plain_names,
    to_line,
    write_pairs,
)
from disk_hloc.io.names import is_relative
from support.errors import one_line_error

# All that a file system allows, but for tabs and line feeds.
listable_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n") | st.sampled_from("# \r/-"),
    min_size=1,
    max_size=10,
).filter(lambda name: is_relative(name) and PurePosixPath(name).as_posix() == name)
pair_lists = st.lists(
    st.tuples(listable_names, listable_names).filter(lambda pair: pair[0] != pair[1]),
    min_size=1,
    max_size=20,
    unique_by=frozenset,
)


@given(pairs=pair_lists)
@settings(deadline=None)
def test_round_trip(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("pairs") / "pairs.txt"
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs
    assert [from_line(to_line(pair)) for pair in pairs] == pairs


def test_names_with_white_space_are_separated_by_a_tab(tmp_path):
    path = tmp_path / "pairs.txt"
    write_pairs(path, [("my photo.jpg", "b.jpg"), ("#1.jpg", "b.jpg")])
    assert path.read_text() == "my photo.jpg\tb.jpg\n./#1.jpg b.jpg\n"
    path.write_bytes(b"\xef\xbb\xbf# pairs\r\n a b.jpg\t\tc.jpg \r\n#x.jpg y.jpg\r\n")
    assert read_pairs(path) == [("a b.jpg", "c.jpg")]


def test_file_is_hlocs(tmp_path):
    path = tmp_path / "new" / "pairs.txt"
    write_pairs(path, iter([("db/a.jpg", "query/ü.jpg"), ("b", "a")]))
    assert path.read_bytes() == "db/a.jpg query/ü.jpg\nb a\n".encode()


def test_white_space_between_names_and_empty_lines_do_not_matter(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_bytes(b"\n  a.jpg \t b.jpg  \r\n\r\n   \nc.jpg a.jpg")
    assert read_pairs(path) == [("a.jpg", "b.jpg"), ("c.jpg", "a.jpg")]


def test_of_duplicate_pairs_the_first_is_kept(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("b a\na c\na b\nb a\nc b\nc a\n")
    assert read_pairs(path) == [("b", "a"), ("a", "c"), ("c", "b")]


@pytest.mark.parametrize(
    ("content", "line"),
    [("a b\nmy photo.jpg b\n", 2), ("a b\n\n\nalone\n", 4), ("a b 0.5\n", 1)],
)
def test_line_that_is_not_two_names(tmp_path, content, line):
    path = tmp_path / "pairs.txt"
    path.write_text(content)
    with pytest.raises(DiskHlocError) as error:
        read_pairs(path)
    text = content.splitlines()[line - 1]
    assert one_line_error(error, path, f"line {line}:", text, "by a tab")


def test_image_paired_with_itself(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("a b\nc c\n")
    with pytest.raises(DiskHlocError) as error:
        read_pairs(path)
    assert one_line_error(error, path, "line 2:", "c is paired with itself")


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_file_without_pairs(tmp_path, content):
    path = tmp_path / "pairs.txt"
    path.write_text(content)
    with pytest.raises(DiskHlocError) as error:
        read_pairs(path)
    assert one_line_error(error, path, "no pair")


def test_file_that_cannot_be_read(tmp_path):
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    for path in (tmp_path / "absent.txt", tmp_path, binary):
        with pytest.raises(DiskHlocError) as error:
            read_pairs(path)
        assert one_line_error(error, "cannot read the pairs", path)


@pytest.mark.parametrize("name", ["a\t", "a\nb", ""])
def test_name_that_no_list_holds_is_refused_and_the_file_unchanged(tmp_path, name):
    path = tmp_path / "pairs.txt"
    write_pairs(path, [("a", "b")])
    with pytest.raises(DiskHlocError) as error:
        write_pairs(path, [("c", "d"), ("e", name)])
    assert one_line_error(error, repr(name), "line break", "rename")
    assert read_pairs(path) == [("a", "b")]


@pytest.mark.parametrize("name", ["my photo.jpg", " a", "a\u00a0b", "a\u2028b", "a\rb"])
def test_hloc_splits_lines_at_white_space(name):
    with pytest.raises(DiskHlocError) as error:
        require_plain_names(["a", name])
    assert one_line_error(error, repr(name), "white space", "--engine native", "rename")
    require_plain_names(["a", "db/ü-1.JPG", "#1"])


def test_a_reader_never_sees_an_incomplete_file(tmp_path):
    path = tmp_path / "pairs.txt"
    write_pairs(path, [("a", "b")])
    with path.open() as reader:
        write_pairs(path, [(f"{i}", f"{i + 1}") for i in range(1000)])
        assert reader.read() == "a b\n"
    assert len(read_pairs(path)) == 1000
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs.txt"]


@given(
    pairs=st.sets(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=300),
    at_once=st.integers(1, 50),
)
def test_the_order_loses_no_pair(pairs: set[tuple[int, int]], at_once: int) -> None:
    named = [(f"{a:02}", f"{b:02}") for a, b in pairs]
    ordered = nearby_order(named, at_once)
    assert len(ordered) == len(named)
    assert set(ordered) == set(named)


def test_images_are_rarely_read_again_in_that_order() -> None:
    names = [f"{i:03}.jpg" for i in range(60)]
    pairs = list(combinations(names, 2))
    reads = {}
    for kind, order in (("by name", sorted(pairs)), ("nearby", nearby_order(pairs, 12))):
        cache: dict[str, None] = {}
        reads[kind] = 0
        for pair in order:
            for name in pair:
                if name not in cache:
                    reads[kind] += 1
                cache.pop(name, None)
                cache[name] = None
                if len(cache) > 12:
                    del cache[next(iter(cache))]
    assert reads["by name"] > 1000
    assert reads["nearby"] <= 60 * 2 * 60 / 12
