"""Read and write known cameras and poses as text files.

A camera file has one line with COLMAP's model, the size and the parameters in pixels:
``PINHOLE width height fx fy cx cy``. A poses file has one line per image,
``name qw qx qy qz tx ty tz``: cam_from_world, with x right, y down, z forward, in metres. A name
may have white space.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.names import require_relative
from disk_hloc.io.replace import replace_text
from disk_hloc.io.text import as_column, read_lines, separator


def read_poses(path: Path) -> dict[str, Pose]:
    """Read the poses of a file by image name.

    Raises:
        DiskHlocError: the file cannot be read, a line is not a name and seven numbers, a name is
            repeated, or a name points outside the folder of the images.
    """
    poses: dict[str, Pose] = {}
    for number, line in read_lines(path, "the poses"):
        listed, values = _name_and_numbers(line)
        quaternion = values[:4]
        with np.errstate(over="ignore"):
            norm = np.linalg.norm(quaternion)
        if len(values) != 7 or not np.isfinite([norm, *values]).all() or norm == 0:
            raise DiskHlocError(f"{path}, line {number}: expected `name qw qx qy qz tx ty tz`")
        name = require_relative(listed, f"{path}, line {number}")
        if name in poses:
            raise DiskHlocError(f"{path}, line {number}: {name} already has a pose")
        poses[name] = Pose(quaternion / norm, values[4:])
    return poses


def _name_and_numbers(line: str) -> tuple[str, np.ndarray]:
    """Split a line into a name, which may have white space, and the numbers after it."""
    name, tab, rest = line.partition("\t")
    words = rest.split()
    if not tab:
        name, *words = line.rsplit(maxsplit=7)
        # Without a tab, the end of a name that is a number would be one number too many.
        words = [*name.split()[1:][-1:], *words] if _is_number(name.split()[-1]) else words
    return name.strip(), np.array([float(word) if _is_number(word) else np.nan for word in words])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def write_poses(path: Path, poses: Mapping[str, Pose], *, header: bool = True) -> None:
    """Write poses to a file, one image per line.

    Args:
        path: the file.
        poses: by image name.
        header: whether a comment says what the columns are; the benchmarks take none.

    Raises:
        DiskHlocError: a name has a tab or a line feed.
    """
    lines = ["# name qw qx qy qz tx ty tz (cam_from_world, metres)"] if header else []
    for name, pose in poses.items():
        values = np.concatenate([pose.quaternion, pose.translation])
        numbers = " ".join(f"{value:.12g}" for value in values)
        lines.append(f"{as_column(name)}{separator(name)}{numbers}")
    replace_text(path, "".join(f"{line}\n" for line in lines))


def read_camera(path: Path) -> tuple[str, int, int, list[float]]:
    """Read the camera of a file: COLMAP's model name, width, height and parameters in pixels.

    Raises:
        DiskHlocError: the file cannot be read, or its first line is not a camera.
    """
    for number, line in read_lines(path, "the camera"):
        words = line.split()
        try:
            return words[0], int(words[1]), int(words[2]), [float(word) for word in words[3:]]
        except (ValueError, IndexError) as error:
            raise DiskHlocError(
                f"{path}, line {number}: expected `MODEL width height parameters...`"
            ) from error
    raise DiskHlocError(f"{path} has no camera")
