"""Lists of queries with intrinsics, and retrieved pairs."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.queries import read_queries, read_retrieval


def test_several_lists_are_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "day_queries.txt").write_text("# day\nq/1.jpg PINHOLE 640 480 500 510 320 240\n")
    (tmp_path / "night_queries.txt").write_text("\nq/2.jpg SIMPLE_RADIAL 640 480 500 320 240 0.1\n")
    queries = read_queries(tmp_path / "*_queries.txt")
    assert list(queries) == ["q/1.jpg", "q/2.jpg"]
    assert list(queries["q/1.jpg"].params) == [500, 510, 320, 240]
    assert (queries["q/2.jpg"].width, queries["q/2.jpg"].height) == (640, 480)


@pytest.mark.parametrize(
    "line", ["b.jpg", "b.jpg PINHOLE 640 480 500", "b.jpg FISH 6 4 5 3 2", "b.jpg PINHOLE a b c d"]
)
def test_a_query_without_intrinsics_is_skipped_with_a_warning(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "queries.txt"
    path.write_text(f"a.jpg PINHOLE 640 480 500 510 320 240\n{line}\n")
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        assert list(read_queries(path)) == ["a.jpg"]
    assert "b.jpg" in caplog.text
    path.write_text(f"{line}\n")
    with pytest.raises(DiskHlocError, match="no query with intrinsics"):
        read_queries(path)


def test_lists_that_people_write_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "queries.txt"
    camera = "PINHOLE 640 480 500 510 320 240"
    path.write_bytes(
        b"\xef\xbb\xbf# mine\r\n\r\n"
        + f"a.jpg\tPINHOLE\t640\t480\t500\t510\t320\t240\r\n my photo.jpg  {camera}\r\n"
        f"./#1.jpg {camera}\n#2.jpg {camera}\nA PINHOLE photo.jpg {camera}".encode()
    )
    assert list(read_queries(path)) == ["a.jpg", "my photo.jpg", "#1.jpg", "A PINHOLE photo.jpg"]
    path.write_bytes(b"\xef\xbb\xbf# mine\r\na.jpg b.jpg\r\n\r\nmy photo.jpg\tb.jpg\r\n")
    assert read_retrieval(path) == {"a.jpg": ["b.jpg"], "my photo.jpg": ["b.jpg"]}
    path.write_text("a.jpg b.jpg\n", encoding="utf-16")
    with pytest.raises(DiskHlocError, match="save it as UTF-8"):
        read_retrieval(path)


def test_a_query_has_one_camera(tmp_path: Path) -> None:
    path = tmp_path / "queries.txt"
    line = "a.jpg PINHOLE 640 480 500 510 320 240\n"
    path.write_text(line + line)
    assert list(read_queries(path)) == ["a.jpg"]
    path.write_text(line + line.replace("500", "501"))
    with pytest.raises(DiskHlocError, match=r"line 2: a\.jpg has another camera"):
        read_queries(path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match=r"nothing_\*\.txt"):
        read_queries(tmp_path / "nothing_*.txt")


def test_retrieved_images_keep_their_order_without_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("q1 b\nq1 a\nq2 a\nq1 b\n\n")
    assert read_retrieval(path) == {"q1": ["b", "a"], "q2": ["a"]}
    path.write_text("q1 b c\n")
    with pytest.raises(DiskHlocError, match="line 1"):
        read_retrieval(path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text(text, encoding="utf-8")
    for read in (read_queries, read_retrieval):
        with contextlib.suppress(DiskHlocError):
            assert read(path)
