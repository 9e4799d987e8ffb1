"""Check the binary files of a COLMAP model before pycolmap reads them.

Their headers say how many records follow, and COLMAP asks for memory for all of them first: of a
file that was cut short, or that is empty, that can be any number of gigabytes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import pycolmap

from disk_hloc.errors import DiskHlocError

_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")  # id, model, width, height; then its parameters
_IMAGE = struct.Struct("<I7dI")  # id, rotation, translation, camera; then the name
_POINT2D_BYTES = 24  # x, y, id of the point
_POINT3D = struct.Struct("<Q3d3BdQ")  # id, x y z, colour, error, length of the track
_TRACK_BYTES = 8  # image, index of the keypoint
_RIG = struct.Struct("<II")  # id, number of sensors; then the first sensor
_SENSOR_BYTES = 8  # type, id
_POSE_BYTES = 56  # rotation, translation
_FRAME = struct.Struct("<II7dI")  # id, rig, rotation, translation, number of data
_DATA_BYTES = 16  # type and id of the sensor, id of the datum

_NUM_PARAMS = {
    int(model): len(
        pycolmap.Camera(model=name, width=2, height=2, params=[]).params_info.split(",")
    )
    for name, model in pycolmap.CameraModelId.__members__.items()
    if name != "INVALID"
}


def require_sound_files(folder: Path) -> None:
    """Check that the model files of a folder have the sizes that they claim.

    A record is looked at by its length alone, so a file of a million points takes a second and no
    memory to speak of. Files of text claim no sizes and are not looked at.

    Args:
        folder: of ``cameras.bin``, ``images.bin``, ``points3D.bin``; since COLMAP 3.12 also of
            ``rigs.bin`` and ``frames.bin``.

    Raises:
        DiskHlocError: a file ends before or after its records, or a camera model is unknown.
    """
    for name, record in _RECORDS.items():
        path = folder / f"{name}.bin"
        if path.is_file():
            _check(path, record)


def _check(path: Path, record: Callable[[mmap.mmap, int], int]) -> None:
    size = path.stat().st_size
    if size < _COUNT.size:
        raise DiskHlocError(f"{path} is broken: {size} bytes, which do not even hold its header")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (count,) = _COUNT.unpack_from(data)
        place, number = _COUNT.size, 0
        # A record takes at least a byte, so this ends with the file whatever the count.
        while number < count and place <= size:
            number += 1
            try:
                place = record(data, place)
            except struct.error:
                place = size + 1
            except ValueError as error:
                raise DiskHlocError(f"{path} is broken: record {number}: {error}") from error
    if place > size:
        raise DiskHlocError(
            f"{path} is broken: it ends in record {number} of {count}; it may have been written to "
            "a full disk"
        )
    if place < size:
        raise DiskHlocError(
            f"{path} is broken: its {count} records take {place} of its {size} bytes"
        )


# Each returns where the next record begins, perhaps beyond the end of the file.


def _after_camera(data: mmap.mmap, place: int) -> int:
    _, model, _, _ = _CAMERA.unpack_from(data, place)
    if model not in _NUM_PARAMS:
        raise ValueError(f"pycolmap {pycolmap.__version__} has no camera model {model}")
    return place + _CAMERA.size + 8 * _NUM_PARAMS[model]


def _after_image(data: mmap.mmap, place: int) -> int:
    end = data.find(b"\0", place + _IMAGE.size)
    if end < 0:
        return len(data) + 1
    (count,) = _COUNT.unpack_from(data, end + 1)
    return end + 1 + _COUNT.size + _POINT2D_BYTES * count


def _after_point3d(data: mmap.mmap, place: int) -> int:
    return place + _POINT3D.size + _TRACK_BYTES * _POINT3D.unpack_from(data, place)[-1]


def _after_rig(data: mmap.mmap, place: int) -> int:
    _, count = _RIG.unpack_from(data, place)
    place += _RIG.size
    for number in range(count):
        place += _SENSOR_BYTES
        if number > 0:  # the first is where the rig's poses are relative to
            (has_pose,) = struct.unpack_from("<B", data, place)
            place += 1 + (_POSE_BYTES if has_pose else 0)
        if place > len(data):
            break
    return place


def _after_frame(data: mmap.mmap, place: int) -> int:
    return place + _FRAME.size + _DATA_BYTES * _FRAME.unpack_from(data, place)[-1]


_RECORDS = {
    "cameras": _after_camera,
    "images": _after_image,
    "points3D": _after_point3d,
    "rigs": _after_rig,
    "frames": _after_frame,
}
