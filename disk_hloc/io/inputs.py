"""Digests of the photos and masks that an output was made of, without reading them each time.

Beside ``features.h5`` a file ``.features.h5.inputs`` remembers for each photo its size and times
together with its digest, as git's index does: a file whose size and times are the same has the
same digest. Where they differ, the file is read once. The file is a cache: without it, all photos
are read once, and nothing else changes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .digests import digest_of_data, digest_of_file
from .masks import Masks, Size
from .replace import replace_text
from .store.fingerprints import NOTHING

# A file that changed so shortly before it was read may change again within the resolution of its
# times, so its digest is not remembered.
_RACY_SECONDS = 2.0

# Size in bytes, and times of modification and of change in nanoseconds.
Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp:
    """Return a file's stamp, which changes when its content does.

    Raises:
        OSError: the file does not exist.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Inputs:
    """The digests of photos and masks for one output.

    Args:
        output: the file that is made of them.
        image_dir: the photos.
        masks: where keypoints may be; None keeps all.
    """

    def __init__(self, output: Path, image_dir: Path, masks: Masks | None = None) -> None:
        self._path = inputs_path(output)
        self._image_dir = image_dir
        self._masks = masks
        self._photos, self._mask_digests = _read(self._path)
        self._changed = False

    def photo(self, name: str) -> str | None:
        """Return the digest of a photo's file; None if it cannot be read."""
        path = self._image_dir / name
        try:
            stamp = stamp_of(path)
            known = self._photos.get(name)
            if known is not None and tuple(known[:3]) == stamp:
                return str(known[3])
            digest = digest_of_file(path) if path.is_file() else None
        except OSError:
            return None
        if digest is not None:
            self.note_photo(name, stamp, digest)
        return digest

    def note_photo(self, name: str, stamp: Stamp, digest: str) -> None:
        """Remember the digest of a photo that had ``stamp`` before it was read."""
        self._changed = True
        if _is_racy(stamp):
            self._photos.pop(name, None)
        else:
            self._photos[name] = [*stamp, digest]

    def mask(self, name: str, size: Size) -> str:
        """Return the digest of a photo's mask, :data:`NOTHING` where it keeps all of the photo.

        Args:
            name: of the photo.
            size: its width and height in pixels.

        Raises:
            DiskHlocError: the mask cannot be read or does not fit.
        """
        if self._masks is None:
            return NOTHING
        stamps = [stamp_of(path) for path in self._masks.files_of(name)]
        key = digest_of_data([self._masks.options(), stamps, size])
        known = self._mask_digests.get(name)
        if known is not None and known[0] == key:
            return str(known[1])
        digest = self._masks.digest(name, size)
        self._changed = True
        if any(map(_is_racy, stamps)):
            self._mask_digests.pop(name, None)
        else:
            self._mask_digests[name] = [key, digest]
        return digest

    def save(self) -> None:
        """Write what has changed."""
        if not self._changed:
            return
        content = {"photos": self._photos, "masks": self._mask_digests}
        replace_text(self._path, json.dumps(content, sort_keys=True) + "\n")
        self._changed = False


def inputs_path(output: Path) -> Path:
    """Return the file beside an output that remembers its inputs."""
    return output.with_name(f".{output.name}.inputs")


def _read(path: Path) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        photos, masks = dict(content["photos"]), dict(content["masks"])
        # A cache that something else wrote or damaged is as good as none.
        photos = {name: known for name, known in photos.items() if len(known) == 4}
        return photos, {name: known for name, known in masks.items() if len(known) == 2}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}, {}


def _is_racy(stamp: Stamp) -> bool:
    return time.time_ns() - max(stamp[1:]) < _RACY_SECONDS * 1e9
