"""Photos of formats that COLMAP does not read, for COLMAP."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import ImageReadError, opened, read_image

# Of JPEG.
_MAX_SIDE = 65535


@contextmanager
def readable_photos(image_dir: Path, names: Sequence[str], folder: Path) -> Iterator[Path]:
    """Give a folder in which COLMAP can read all photos.

    It is the folder of the photos itself if it has no WebP, HEIC, AVIF, GIF, JPEG 2000 or Sun
    raster, whatever their suffixes say. Otherwise it is a temporary one with links to the photos
    that COLMAP reads, and the others as JPEG under the same names, with their EXIF data: COLMAP
    goes by content.

    Args:
        image_dir: the photos.
        names: those that COLMAP is to read.
        folder: where the temporary folder is made.

    Raises:
        DiskHlocError: a photo cannot be read or converted.
    """
    converted = [name for name in names if _is_foreign(image_dir / name)]
    if not converted:
        yield image_dir
        return
    with tempfile.TemporaryDirectory(prefix=".photos.", dir=folder) as temporary:
        target = Path(temporary)
        for name in set(names).difference(converted):
            _link(image_dir / name, target / name)
        for name in tqdm(converted, desc="Convert for COLMAP", unit="image"):
            _convert(image_dir / name, target / name)
        yield target


def _is_foreign(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            prefix = file.read(12)
    except OSError:
        return False  # who needs the photo says so
    return (
        (prefix[:4] == b"RIFF" and prefix[8:] == b"WEBP")
        or prefix[:4] in (b"GIF8", b"\xff\x4f\xff\x51", b"\x59\xa6\x6a\x95")
        or prefix[4:8] == b"jP  "
        or prefix[4:8] == b"ftyp"
    )


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(path.absolute())
    except OSError:  # Windows asks for a privilege
        shutil.copyfile(path, target)


def _convert(path: Path, target: Path) -> None:
    """Write a photo as JPEG, its pixels as they are stored and its EXIF data beside them."""
    try:
        image = read_image(path)
        with opened(path) as header:
            exif = header.info.get("exif", b"") if header is not None else b""
    except (ImageReadError, OSError) as error:
        raise DiskHlocError(f"{path} cannot be read: {error}") from error
    if max(image.shape[:2]) > _MAX_SIDE:
        raise DiskHlocError(f"{path} is too large for a copy that COLMAP reads: convert it to PNG")
    target.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]))
    if not done:
        raise DiskHlocError(f"{path} cannot be converted for COLMAP")
    encoded = data.tobytes()
    if exif and len(exif) < 65000:
        block = exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif
        segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        # After the marker that begins a JPEG.
        encoded = encoded[:2] + segment + encoded[2:]
    target.write_bytes(encoded)
