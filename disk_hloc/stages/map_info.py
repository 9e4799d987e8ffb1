"""What is in a map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc.io.map_folder import FORMAT, INDEX
from disk_hloc.io.map_index import read_current

_ORIGIN = ("latitude", "longitude", "altitude")
# Of cameras that are listed for a person.
_MOST_CAMERAS = 10


def main(folder: Path) -> dict[str, Any]:
    """Return the figures of a map; nothing large is read.

    Args:
        folder: the map.

    Returns:
        ``map`` (its path), ``format``, ``made_by`` (the version of disk_hloc), ``photos``,
        ``points``, ``observations`` (by the map's features), ``turned`` (how many photos were
        turned for extraction), ``cameras`` (a list of ``id``, ``model``, ``size`` and ``params`` in
        pixels, ``photos``, ``devices``), the confs ``extractor``, ``matcher`` and ``retrieval``,
        ``georeference`` (the origin in degrees and metres, or None), and ``bytes`` (part of the
        folder -> its size on the disk, and ``total``).

    Raises:
        DiskHlocError: the folder holds no map, or one that is broken.
    """
    made, index, frame = read_current(folder, memory_budget=0)
    photos = Counter(index.camera_ids)
    devices: dict[int, set[str]] = {camera_id: set() for camera_id in photos}
    for camera_id, device in zip(index.camera_ids, index.devices, strict=True):
        if device is not None:
            devices[camera_id].add(device)
    return {
        "map": str(folder),
        "format": FORMAT,
        "made_by": made.made_by,
        "photos": len(index.names),
        "points": len(index.xyz),
        "observations": len(index.points),
        "turned": int((index.turns % 4 != 0).sum()),
        "cameras": [
            {
                "id": camera_id,
                "model": camera["model"],
                "size": [camera["width"], camera["height"]],
                "params": list(camera["params"]),
                "photos": photos[camera_id],
                "devices": sorted(devices[camera_id]),
            }
            for camera_id, camera in sorted(index.cameras.items())
            if camera_id in photos
        ],
        "extractor": dict(made.extractor),
        "matcher": dict(made.matcher),
        "retrieval": dict(made.retrieval),
        "georeference": None
        if frame is None
        else dict(zip(_ORIGIN, frame.origin.tolist(), strict=True)),
        "bytes": _sizes(folder, made.model),
    }


def _sizes(folder: Path, model: Path) -> dict[str, int]:
    """Return part of a map -> bytes of its files."""
    index = model / INDEX
    parts = {
        "index": _size(index),
        "model": _size(model) - _size(index),
        **{path.name: _size(path) for path in sorted(folder.glob("[!.]*")) if path != model},
    }
    return {**parts, "total": _size(folder)}


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def figures(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`main` found as figures by name, for a person."""
    shown = {key: info[key] for key in ("map", "format", "made_by")}
    shown |= {key: info[key] for key in ("photos", "turned", "points", "observations")}
    for camera in info["cameras"][:_MOST_CAMERAS]:
        width, height = camera["size"]
        params = ", ".join(f"{value:.6g}" for value in camera["params"])
        devices = "".join(f" ({device})" for device in camera["devices"])
        shown[f"camera {camera['id']}"] = (
            f"{camera['model']} {width} x {height}: {params}; {camera['photos']} photos{devices}"
        )
    if len(info["cameras"]) > _MOST_CAMERAS:
        shown["more cameras"] = len(info["cameras"]) - _MOST_CAMERAS
    for part in ("extractor", "matcher", "retrieval"):
        conf = info[part]
        values = {**conf["model"], **conf.get("preprocessing", {})}
        shown[part] = ", ".join(f"{key} {value}" for key, value in values.items())
    shown["georeference"] = info["georeference"] or "none"
    for part, size in info["bytes"].items():
        shown[f"size of {part}" if part != "total" else "size"] = f"{size / 2**20:.1f} MB"
    return shown
