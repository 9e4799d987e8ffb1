"""Photos that a command is given: files, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pycolmap

from disk_hloc.errors import DiskHlocError, listing

from .colmap import require_camera
from .hloc.queries import read_queries
from .images import ImageReadError, image_size, list_images
from .names import natural_order, require_relative


def find_photos(given: Sequence[Path], without: Iterable[Path | None] = ()) -> dict[str, Path]:
    """Return the photos of files and folders by their names.

    A name is the path below the folder that all have in common: below a folder that is given
    alone, and the name of the file for a file that is given alone.

    Args:
        given: files, which need not exist, and folders, whose photos are taken with those of their
            subfolders, frame2 before frame10.
        without: folders whose images are not photos, such as those of masks.

    Returns:
        Name, with ``/`` -> path.

    Raises:
        DiskHlocError: nothing is given, a folder has no images, or a name is not UTF-8.
    """
    if not given:
        raise DiskHlocError("no photos given: name files, or folders of them")
    found = []
    for path in given:
        if path.is_dir():
            found += [path / name for name in sorted(list_images(path, without), key=natural_order)]
        else:
            found.append(path)
    roots = [path if path.is_dir() else path.parent for path in given]
    common = os.path.commonpath([os.path.abspath(root) for root in roots])
    names = [Path(os.path.relpath(os.path.abspath(path), common)).as_posix() for path in found]
    return {
        require_relative(name, "the photos"): path for name, path in zip(names, found, strict=True)
    }


def known_cameras(
    photos: Mapping[str, Path], camera: str | None = None, queries: Path | None = None
) -> dict[str, pycolmap.Camera | str | None]:
    """Return what is known of the cameras of photos, and by that which of them are asked for.

    Args:
        photos: name -> path.
        camera: the intrinsics of all, ``"PINHOLE fx,fy,cx,cy"``.
        queries: hloc's list of queries with intrinsics, instead: of the photos that it names.

    Returns:
        Name -> camera; None where it is not known.

    Raises:
        DiskHlocError: both are given, the camera is not one, the list cannot be read or names other
            photos, or photos with one camera have several sizes.
    """
    if queries is None:
        if camera is not None:
            require_camera(camera)
            _require_one_size(photos.values())
        return dict.fromkeys(photos, camera)
    if camera is not None:
        raise DiskHlocError("a list of queries has their cameras: leave out the camera of all")
    cameras = read_queries(queries)
    require_given(photos, cameras, queries)
    return {**cameras}


def require_given(photos: Collection[str], names: Iterable[str], where: Path) -> None:
    """Check that the photos that a file names are among those that are given.

    Raises:
        DiskHlocError: some are not.
    """
    absent = [name for name in names if name not in photos]
    if absent:
        raise DiskHlocError(
            f"{where} names {len(absent)} photos that are not among those given: "
            f"{listing(absent)}; give the folder that these names are relative to"
        )


def _require_one_size(photos: Iterable[Path]) -> None:
    """Check that photos have one size, so that they can have one camera.

    Photos that cannot be read are left out.

    Raises:
        DiskHlocError: two have different sizes.
    """
    first: tuple[Path, tuple[int, int]] | None = None
    for path in photos:
        try:
            size = image_size(path)
        except ImageReadError:
            continue
        if first is None:
            first = path, size
        elif size != first[1]:
            raise DiskHlocError(
                "one camera belongs to photos of one size, but {} has {} x {} pixels and {} has "
                "{} x {}: give them apart, or a list of queries with their intrinsics".format(
                    first[0], *first[1], path, *size
                )
            )
