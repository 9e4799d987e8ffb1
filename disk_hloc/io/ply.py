"""Read and write point clouds and triangle meshes as PLY files.

Turk, "The PLY polygon file format", 1994: a text header names elements and their properties, whose
values follow as text or binary. Here the positions of ``vertex`` are read, and the polygons of
``face``; all else is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from disk_hloc.errors import DiskHlocError

from .ply_elements import BinaryElements, Broken, Element, Property, TextElements
from .replace import replaced

# The surfaces of a drawn scene, in its folder.
MESH = "mesh.ply"
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER_BYTES = 1 << 16
_MAX_ROWS = 1 << 40
# How files call the corners of a face.
_CORNERS = ("vertex_indices", "vertex_index")


@dataclass(frozen=True)
class Ply:
    """What a PLY file holds.

    Attributes:
        points: (N, 3) positions, float64 if the file has doubles, else float32.
        triangles: (M, 3) int64 indices of the points; polygons are cut into fans. (0, 3) of a
            point cloud.
    """

    points: np.ndarray
    triangles: np.ndarray


def read_ply(path: Path) -> Ply:
    """Read the points and triangles of a PLY file, text or binary of either byte order.

    Raises:
        DiskHlocError: the file cannot be read, is not a PLY file, is cut short, has no points, a
            position that is not finite, or a face of points that it does not have.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except Broken as error:
        raise DiskHlocError(f"{path} {error}") from error
    except OSError as error:
        raise DiskHlocError(f"cannot read {path}: {error.strerror or error}") from error


def write_ply(path: Path, points: np.ndarray, triangles: np.ndarray) -> None:
    """Write a mesh or a point cloud as a binary PLY file, which is complete or unchanged.

    Args:
        path: the file.
        points: (N, 3), written as doubles.
        triangles: (M, 3) indices of the points; without any, the file is a point cloud.
    """
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property double {axis}" for axis in "xyz"]
    if len(triangles):
        lines += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    faces = np.zeros(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"] = 3
    faces["corners"] = triangles.reshape(-1, 3)
    header = "\n".join([*lines, "end_header", ""]).encode()
    with replaced(path) as partial:
        partial.write_bytes(header + np.asarray(points, "<f8").tobytes() + faces.tobytes())


def _read(file: BinaryIO) -> Ply:
    order, elements = _header(file)
    names = [element.name for element in elements]
    if "tristrips" in names:
        raise Broken("has strips of triangles, which are not read: save it with faces")
    if "vertex" not in names:
        raise Broken("has no vertices: give a point cloud or a mesh")
    read = BinaryElements(file, order) if order else TextElements(file)
    points, corners = np.empty((0, 3), np.float32), [np.empty((0, 3), np.int64)]
    for element in elements:
        if element.name == "vertex":
            points = _points(read, element)
        elif element.name == "face" and element.count:
            corners = _corners(read, element)
        else:
            read.skip(element)
    triangles = np.concatenate([_fans(one) for one in corners])
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(points)):
        raise Broken(f"has a face with a corner that is not among its {len(points)} vertices")
    return Ply(points, triangles)


def _header(file: BinaryIO) -> tuple[str, list[Element]]:
    """Return the byte order, empty for text, and the elements in the order of the file."""
    if file.readline(8).strip() != b"ply":
        raise Broken("is not a PLY file: it does not begin with `ply`")
    order: str | None = None
    elements: list[Element] = []
    while True:
        line = file.readline(_MAX_HEADER_BYTES)
        if not line.endswith(b"\n") or file.tell() > _MAX_HEADER_BYTES:
            raise Broken("has no whole PLY header: `end_header` is missing")
        words = line.decode("latin1").split()
        try:
            match words:
                case ["end_header"]:
                    break
                case [] | ["comment" | "obj_info", *_]:
                    continue
                case ["format", name, *_]:
                    order = _ORDERS[name]
                case ["element", name, count] if 0 <= int(count) < _MAX_ROWS:
                    elements.append(Element(name, int(count), []))
                case ["property", "list", length, kind, name] if _TYPES[length][0] != "f":
                    elements[-1].properties.append(Property(name, _TYPES[kind], _TYPES[length]))
                case ["property", kind, name]:
                    elements[-1].properties.append(Property(name, _TYPES[kind], None))
                case _:
                    raise ValueError
        except (LookupError, ValueError) as error:
            raise Broken(f"has an unknown line in its PLY header: {' '.join(words)!r}") from error
    if order is None:
        raise Broken("has no `format` in its PLY header")
    return order, elements


def _points(read: TextElements | BinaryElements, element: Element) -> np.ndarray:
    types = {one.name: one for one in element.properties}
    if any(axis not in types or types[axis].length is not None for axis in "xyz"):
        raise Broken("has vertices without x, y and z")
    if element.count == 0:
        raise Broken("has no vertices: it is empty")
    if any(one.length is not None for one in element.properties):
        raise Broken("has vertices with lists, which are not read: save it without them")
    columns = read.columns(element, ["x", "y", "z"])
    double = any(types[axis].dtype == "f8" for axis in "xyz")
    points = np.empty((element.count, 3), np.float64 if double else np.float32)
    for i, column in enumerate(columns):
        points[:, i] = column
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise Broken(
            f"has {bad.sum()} of {len(points)} vertices whose position is not finite, the first is "
            f"number {bad.argmax()}: remove them"
        )
    return points


def _corners(read: TextElements | BinaryElements, element: Element) -> list[np.ndarray]:
    """Return the corners of faces as arrays, each of faces with the same number of corners."""
    lists = {one.name: one for one in element.properties if one.length is not None}
    name = next((name for name in _CORNERS if name in lists), None)
    if name is None or lists[name].dtype[0] == "f":
        raise Broken("has faces without vertex_indices")
    return read.lists(element, name)


def _fans(corners: np.ndarray) -> np.ndarray:
    """Cut (N, K) polygons into (N * (K - 2), 3) triangles around their first corner."""
    parts = [corners[:, [0, i, i + 1]] for i in range(1, corners.shape[1] - 1)]
    return np.stack(parts, axis=1).reshape(-1, 3) if parts else np.empty((0, 3), np.int64)
