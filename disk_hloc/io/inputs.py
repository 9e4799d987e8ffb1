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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .digests import digest_of_data, digest_of_file
from .images import ImageReadError, image_size
from .masks import Masks, Size, digest_of_mask
from .replace import replaced
from .store.fingerprints import NOTHING

# A file that changed so shortly before it was read may change again within the resolution of its
# times, so its digest is not remembered.
_RACY_SECONDS = 2.0

# Size in bytes, and times of modification and of change in nanoseconds.
Stamp = tuple[int, int, int]


class Seen(NamedTuple):
    """What a photo and its mask were when they were read.

    Attributes:
        stamp: of the photo, before it was read.
        digest: of the photo's bytes.
        size: width and height of the photo in pixels.
        mask_stamps: of the files of its mask, before they were read; None without masks.
        mask: digest of the mask.
        turn: by how many quarters the photo was turned, counter-clockwise.
    """

    stamp: Stamp
    digest: str
    size: Size
    mask_stamps: tuple[Stamp, ...] | None
    mask: str
    turn: int = 0

    @property
    def inputs(self) -> str:
        """The inputs of the features' fingerprint."""
        return _inputs(self.digest, self.mask, self.turn)


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

    def of(self, name: str, turn: int = 0) -> str | None:
        """Return the inputs of a photo's features as they are now (:attr:`Seen.inputs`).

        Args:
            name: of the photo.
            turn: by how many quarters it is to be turned.

        Returns:
            None if the photo cannot be read.

        Raises:
            DiskHlocError: the mask cannot be read or does not fit.
        """
        photo = self._photo(name)
        if photo is None or self._masks is None:
            return photo and _inputs(photo, NOTHING, turn)
        try:
            size = image_size(self._image_dir / name)
        except ImageReadError:
            return None
        return _inputs(photo, self._mask(name, size), turn)

    def note(self, name: str, seen: Seen) -> None:
        """Remember what a photo and its mask were when they were read."""
        self._note_photo(name, seen.stamp, seen.digest)
        if seen.mask_stamps is not None:
            self._note_mask(name, seen.mask_stamps, seen.size, seen.mask)

    def _photo(self, name: str) -> str | None:
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
            self._note_photo(name, stamp, digest)
        return digest

    def _note_photo(self, name: str, stamp: Stamp, digest: str) -> None:
        self._changed = True
        if _is_racy(stamp):
            self._photos.pop(name, None)
        else:
            self._photos[name] = [*stamp, digest]

    def _mask(self, name: str, size: Size) -> str:
        """Return the digest of a photo's mask, :data:`NOTHING` where it keeps all of the photo."""
        assert self._masks is not None
        stamps = mask_stamps(self._masks, name)
        known = self._mask_digests.get(name)
        if known is not None and known[0] == self._mask_key(stamps, size):
            return str(known[1])
        digest = digest_of_mask(self._masks(name, size))
        self._note_mask(name, stamps, size, digest)
        return digest

    def _note_mask(self, name: str, stamps: tuple[Stamp, ...], size: Size, digest: str) -> None:
        self._changed = True
        if any(map(_is_racy, stamps)):
            self._mask_digests.pop(name, None)
        else:
            self._mask_digests[name] = [self._mask_key(stamps, size), digest]

    def _mask_key(self, stamps: tuple[Stamp, ...], size: Size) -> str:
        options = self._masks.options() if self._masks is not None else None
        return digest_of_data([options, stamps, size])

    def save(self) -> None:
        """Write what has changed."""
        if not self._changed:
            return
        content = {"photos": self._photos, "masks": self._mask_digests}
        # Of one name, so that the next run replaces what a killed one left behind.
        with replaced(self._path, self._path.with_name(f"{self._path.name}.partial")) as partial:
            partial.write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")
        self._changed = False


def digest_of_photos(output: Path, image_dir: Path, names: Iterable[str]) -> str:
    """Return the digest of several photos and their names.

    Args:
        output: the folder of results that depend on them; ``.photos.inputs`` there remembers the
            digest of each photo.
        image_dir: the photos.
        names: of the photos; one that cannot be read counts as such.
    """
    inputs = Inputs(output / "photos", image_dir)
    digest = digest_of_data({name: inputs.of(name) for name in names})
    inputs.save()
    return digest


def mask_stamps(masks: Masks, name: str) -> tuple[Stamp, ...]:
    """Return the stamps of the files that a photo's mask is read from."""
    return tuple(stamp_of(path) for path in masks.files_of(name))


def _inputs(photo: str, mask: str, turn: int) -> str:
    # Without a turn, the line of earlier versions.
    return f"{photo} {mask} turned{90 * turn}" if turn else f"{photo} {mask}"


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
