"""Compare the sizes of images that several files state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from disk_hloc.errors import DiskHlocError, listing

from .images import ImageReadError, image_size

Size = tuple[int, int]  # width, height in pixels


def photo_sizes(image_dir: Path, names: Iterable[str]) -> dict[str, Size]:
    """Read image name -> size from the headers of photos; without those that cannot be read."""
    sizes = {}
    for name in names:
        try:
            sizes[name] = image_size(image_dir / name)
        except ImageReadError:
            continue  # the stage that decodes the photo says so, or goes on without it
    return sizes


def require_same_sizes(
    sizes: Mapping[str, Size], source: str, others: Mapping[str, Size], other_source: str
) -> None:
    """Check that images have the same sizes in two files, where both state them.

    Args:
        sizes: image name -> width and height in pixels.
        source: where these are from, for the error: ``the photos of images/``.
        others: the same of another file.
        other_source: where those are from.

    Raises:
        DiskHlocError: the sizes of an image differ.
    """
    differing = [
        f"{name} ({_shown(other)} and {_shown(sizes[name])})"
        for name, other in others.items()
        if name in sizes and tuple(sizes[name]) != tuple(other)
    ]
    if differing:
        raise DiskHlocError(
            f"{other_source} and {source} differ in the size of {len(differing)} images: "
            f"{listing(differing)}; give files of the same images"
        )


def require_shared_cameras(image_dir: Path, names: Iterable[str], mode: str) -> None:
    """Check that photos that share a camera have one size.

    Args:
        image_dir: the photos.
        names: those to check; photos that cannot be read are left out.
        mode: which photos share a camera: ``single``, ``per-folder``, or another mode, in which
            COLMAP gives photos of another size a camera of their own.

    Raises:
        DiskHlocError: the sizes differ.
    """
    if mode not in ("single", "per-folder"):
        return
    folders: dict[str, dict[str, Size]] = {}
    for name, size in photo_sizes(image_dir, names).items():
        folder = str(PurePosixPath(name).parent) if mode == "per-folder" else ""
        folders.setdefault(folder, {})[name] = size
    for folder, sizes in folders.items():
        ((usual, count),) = Counter(sizes.values()).most_common(1)
        odd = [f"{name} ({_shown(size)})" for name, size in sizes.items() if size != usual]
        if odd:
            raise DiskHlocError(
                f"the photos of {image_dir / folder} share one camera but not one size: {count} "
                f"have {_shown(usual)} pixels, but {len(odd)} have not: {listing(odd)}; use "
                "--camera-mode auto or per-image, or leave them out"
            )


def _shown(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
