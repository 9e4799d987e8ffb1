"""PLY files: against trimesh, of every encoding, and broken ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.ply import read_ply, write_ply
from support.errors import one_line_error

POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]], np.float32)
HEADER = """ply\r
format {form} 1.0\r
comment element vertex 7\r
element material 2\r
property uchar red\r
element vertex 4\r
property float nx\r
property float x\r
property float y\r
property float z\r
property uchar red\r
element face {faces}\r
property uchar flag\r
property list uchar int vertex_indices\r
property list uchar float texcoord\r
end_header\r
"""


def encoded(form: str, faces: list[tuple[int, ...]]) -> bytes:
    """The points with polygons, beside properties and elements of no interest."""
    header = HEADER.format(form=form, faces=len(faces)).encode()
    if form == "ascii":
        lines = ["7", "8", *(f"9 {x} {y} {z} 255" for x, y, z in POINTS)]
        lines += [f"1 {len(face)} {' '.join(map(str, face))} 2 0.5 0.5" for face in faces]
        return header + "\n".join([*lines, ""]).encode()
    order = "<" if form == "binary_little_endian" else ">"
    content = b"\7\10"
    for point in POINTS:
        content += struct.pack(f"{order}4fB", 9, *point, 255)
    for face in faces:
        content += struct.pack(f"{order}BB{len(face)}iB2f", 1, len(face), *face, 2, 0.5, 0.5)
    return header + content


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(
    ("faces", "expected"),
    [
        ([(0, 1, 2), (0, 2, 3)], [[0, 1, 2], [0, 2, 3]]),
        ([(0, 1, 2, 3)], [[0, 1, 2], [0, 2, 3]]),
        ([(0, 1, 2, 3), (3, 2, 0)], [[0, 1, 2], [0, 2, 3], [3, 2, 0]]),
        ([], []),
    ],
)
def test_every_encoding(tmp_path: Path, form: str, faces: list, expected: list) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(encoded(form, faces))
    found = read_ply(path)
    np.testing.assert_array_equal(found.points, POINTS)
    assert found.points.dtype == np.float32
    assert found.triangles.tolist() == expected


def test_against_trimesh(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.creation.icosphere(2)
    for encoding in ("ascii", "binary"):
        mesh.export(tmp_path / "theirs.ply", encoding=encoding)
        found = read_ply(tmp_path / "theirs.ply")
        np.testing.assert_allclose(found.points, mesh.vertices, atol=1e-6)
        np.testing.assert_array_equal(found.triangles, mesh.faces)
    write_ply(tmp_path / "ours.ply", np.asarray(mesh.vertices), np.asarray(mesh.faces))
    theirs = trimesh.load(tmp_path / "ours.ply", process=False)
    np.testing.assert_array_equal(theirs.vertices, mesh.vertices)
    np.testing.assert_array_equal(theirs.faces, mesh.faces)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a PLY file"),
        (b"solid cube\nfacet normal 0 0 1\n", "not a PLY file"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "end_header"),
        (b"ply\nelement vertex 1\nproperty float x\nend_header\n1\n", "format"),
        (b"ply\nformat ascii 1.0\nelement face 0\nend_header\n", "no vertices"),
        (b"ply\nformat zip 1.0\nend_header\n", "format zip 1.0"),
        (encoded("ascii", []).replace(b"element vertex 4", b"element vertex 0"), "empty"),
        (encoded("ascii", []).replace(b"float y", b"float why"), "x, y and z"),
        (encoded("ascii", []).replace(b" 1.0 ", b" nan ", 1), "1 of 4 vertices"),
        (encoded("ascii", []).replace(b" 1.0 ", b" one ", 1), "not numbers"),
        (encoded("ascii", [])[:-20], "cut short"),
        (encoded("ascii", [(0, 1, 4)]), "4 vertices"),
        (encoded("ascii", [(0, 1, 2)]).replace(b"1 3 0 1", b"1 9 0 1"), "face that is broken"),
        (encoded("binary_big_endian", [(0, 1, -1)]), "4 vertices"),
        (encoded("binary_big_endian", [(0, 1, 2)])[:-1], "cut short"),
        (encoded("binary_little_endian", [])[:-60], "cut short"),
        (
            encoded("binary_big_endian", []).replace(b"vertex 4", b"vertex 999999999999"),
            "cut short",
        ),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "scan.ply"
    path.write_bytes(content)
    with pytest.raises(DiskHlocError) as error:
        read_ply(path)
    assert one_line_error(error, path, said)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        read_ply(tmp_path / "missing.ply")
    assert one_line_error(error, tmp_path / "missing.ply")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
    content = bytearray(encoded(form, [(0, 1, 2), (0, 1, 2, 3)]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    points, reason = np.empty((0, 3)), ""
    try:
        points = read_ply(path).points
    except DiskHlocError as error:
        reason = str(error)
    assert "\n" not in reason
    assert np.isfinite(points).all()
