"""New photos beside those of a map: which are new, which are matched, and which share a camera."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.digests import digest_of_file
from disk_hloc.io.exif import device_of, read_exif
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.map_folder import FIRST_MODEL, MapFolder
from disk_hloc.io.map_index import MapIndex
from disk_hloc.io.sizes import photo_sizes
from disk_hloc.io.store import reading
from disk_hloc.io.store.fingerprints import read_of
from disk_hloc.log import logger

from . import retrieve

# Of up to this many new photos, all pairs among each other are matched.
ALL_PAIRS_UP_TO = 20
# The photos that a run is adding, in the folder of the map.
LISTED = ".adding.txt"


def tidy(made: MapFolder) -> None:
    """Remove what runs that add photos leave beside a map, at whatever moment they were killed."""
    made.remove_other_models()
    (made.path / LISTED).unlink(missing_ok=True)
    if made.model_name != FIRST_MODEL:  # it is of the reconstruction that the map was built of
        (made.path / "summary.json").unlink(missing_ok=True)


def unknown(made: MapFolder, index: MapIndex, image_dir: Path, names: Sequence[str]) -> list[str]:
    """Return the photos that the map lacks.

    Raises:
        DiskHlocError: a photo of the map has the name of another one.
    """
    known = set(index.names).intersection(names)
    with reading(made.features) as features:
        found = {name: read_of(features, name) for name in sorted(known)}
    for name, fingerprint in found.items():
        if fingerprint is None or not fingerprint.inputs:
            continue
        if fingerprint.inputs.split()[0] != digest_of_file(image_dir / name):
            raise DiskHlocError(
                f"{image_dir / name} is another photo than {name} of {made.path}: rename it"
            )
    if known:
        logger.info("%d photos are in the map already: %s", len(known), listing(sorted(known)))
    return [name for name in names if name not in known]


def pairs(
    made: MapFolder,
    index: MapIndex,
    names: Sequence[str],
    num_matched: int,
    *,
    device: str = "auto",
) -> list[Pair]:
    """Pair each new photo with those that look most like it, of the map and among the new ones."""
    path = made.global_descriptors
    found = retrieve.most_similar(path, names, index.names, num_matched, device=device)
    chosen = [(name, other) for name, others in found.items() for other in others]
    if len(names) <= ALL_PAIRS_UP_TO:
        chosen += combinations(names, 2)
    else:
        found = retrieve.most_similar(path, names, names, num_matched, device=device)
        both = {(min(a, b), max(a, b)) for a, others in found.items() for b in others}
        chosen += sorted(both)
    return chosen


def shared_cameras(index: MapIndex, image_dir: Path, names: Sequence[str]) -> dict[str, int]:
    """Return new photo -> the map's camera that took it, of photos whose camera the map has.

    Photos of one device have one. Photos without EXIF data have one where all those of their size
    have, so that someone has said so when the map was built.
    """
    of_device: dict[Any, set[int]] = {}
    counts: dict[Any, int] = {}
    for size, known, camera_id in zip(
        index.sizes.tolist(), index.devices, index.camera_ids, strict=True
    ):
        key = known or tuple(size)
        of_device.setdefault(key, set()).add(camera_id)
        counts[key] = counts.get(key, 0) + 1
    shared = {}
    for name, size in photo_sizes(image_dir, names).items():
        device = device_of(read_exif(image_dir / name), size)
        key = device or size
        cameras = of_device.get(key, set())
        if len(cameras) == 1 and (device is not None or counts[key] > 1):
            shared[name] = next(iter(cameras))
    return shared
