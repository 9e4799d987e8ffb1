"""Photos in a new database, with the cameras that COLMAP guesses.

``pycolmap.import_images`` decodes each photo, one after the other, which takes 0.2 s for 12
megapixels; but what it makes of a photo depends on its header alone. So it imports two photos of
each kind, and what it makes of them tells what it would make of the others: two, since photos of
one kind may share a camera.
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pycolmap
from PIL import ExifTags

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError, listing
from disk_hloc.io.exif import read_exif, tags_of
from disk_hloc.io.images import ImageReadError, image_size, opened, read_image

from .cameras import camera_mode
from .photos import readable_photos
from .pose_priors import read_priors, write_prior

# Camera mode, images, and options of pycolmap.import_images.
Group = tuple[str, list[str], Mapping[str, Any]]
# What COLMAP made of a photo: its camera, and its pose prior if there is one.
_Imported = tuple[pycolmap.Camera, pycolmap.PosePrior | None]

_TAGS = ExifTags.Base
# All that COLMAP reads but the position, which is each photo's own.
_TAGS_OF_IMAGE = (_TAGS.Make, _TAGS.Model, _TAGS.Orientation)
_TAGS_OF_PHOTO = (
    _TAGS.FocalLength,
    _TAGS.FocalLengthIn35mmFilm,
    _TAGS.FocalPlaneXResolution,
    _TAGS.FocalPlaneYResolution,
    _TAGS.FocalPlaneResolutionUnit,
    _TAGS.ExifImageWidth,
    _TAGS.ExifImageHeight,
)


def groups_of(
    image_dir: Path, names: Sequence[str], mode: str, camera: str | None
) -> list[tuple[str, list[str]]]:
    """Return camera modes and the images to import with each.

    COLMAP shares a camera between photos whose EXIF data have the same maker, model and focal
    length. Many photos have lost their maker and model on their way, but not the focal length.
    """
    if mode != "auto" or camera is not None:
        return [(mode, list(names))]
    alike: dict[Any, list[str]] = {}
    for name in names:
        exif = read_exif(image_dir / name)
        if None not in exif.focal_lengths and None in (exif.maker, exif.model):
            try:
                size = image_size(image_dir / name)
            except ImageReadError:
                continue
            alike.setdefault((size, exif.focal_lengths, exif.maker, exif.model), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    shared = {name for group in groups for name in group}
    rest = [name for name in names if name not in shared]
    return [("auto", rest)] * bool(rest) + [("single", group) for group in groups]


def import_photos(path: Path, image_dir: Path, groups: Sequence[Group]) -> None:
    """Add groups of images to a new database, with their cameras and pose priors.

    It is as ``pycolmap.import_images`` makes it, but priors have no positions yet
    (:func:`~disk_hloc.io.colmap.pose_priors.correct_pose_priors`).

    Args:
        path: the database, without images.
        image_dir: the photos.
        groups: camera modes, images, and options of ``pycolmap.import_images``.

    Raises:
        DiskHlocError: COLMAP cannot read some of the images.
    """
    kinds = [
        {name: _kind(image_dir, name, by_folder=mode == "per-folder") for name in names}
        for mode, names, _ in groups
    ]
    samples = [_two_of_each(kind_of) for kind_of in kinds]
    chosen = [[name for some in sample.values() for name in some] for sample in samples]
    if sum(map(len, chosen)) == sum(map(len, kinds)):
        by_colmap(path, image_dir, groups)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        sample_path = Path(scratch) / path.name
        with pycolmap.Database.open(sample_path):
            pass
        modes = [(mode, options) for mode, _, options in groups]
        by_colmap(
            sample_path,
            image_dir,
            [(mode, some, options) for (mode, options), some in zip(modes, chosen, strict=True)],
        )
        imported = _read(sample_path)
    with pycolmap.Database.open(path) as database, pycolmap.DatabaseTransaction(database):
        written: dict[int, tuple[int, int]] = {}
        for kind_of, sample in zip(kinds, samples, strict=True):
            for name in sorted(kind_of):
                some = sample[kind_of[name]]
                camera, prior = imported[name if name in some else some[-1]]
                shares = imported[some[0]][0].camera_id == camera.camera_id
                if camera.camera_id in written and (shares or name in some):
                    ids = written[camera.camera_id]
                else:
                    ids = _write_camera(database, camera)
                    written.setdefault(camera.camera_id, ids)
                _write_image(database, name, *ids, prior)


def by_colmap(path: Path, image_dir: Path, groups: Sequence[Group]) -> None:
    """Have COLMAP import groups of images, each of which it decodes.

    Args:
        path: a database.
        image_dir, groups: see :func:`import_photos`.

    Raises:
        DiskHlocError: COLMAP cannot read some of the images.
    """
    names = [name for _, group, _ in groups for name in group]
    with readable_photos(image_dir, names, path.parent) as photos:
        for mode, group, options in groups:
            pycolmap.import_images(
                path, photos, camera_mode(mode), image_names=group, options=dict(options)
            )
    with pycolmap.Database.open(path) as database:
        found = {image.name for image in database.read_all_images()}
    missing = sorted(set(names) - found)
    if missing:
        reasons = [f"{name} ({_why_not(image_dir / name)})" for name in missing]
        raise DiskHlocError(f"COLMAP cannot read photos of {image_dir}: {listing(reasons)}")


def _kind(image_dir: Path, name: str, *, by_folder: bool) -> Hashable:
    """Return what COLMAP's view of a photo depends on; its name if the header cannot be read."""
    try:
        with opened(image_dir / name) as image:
            if image is None:
                return name
            tags = tags_of(image)
            block = tags.get_ifd(ExifTags.IFD.Exif)
            return (
                str(PurePosixPath(name).parent) if by_folder else None,
                image.format,
                image.size,
                *(str(tags.get(tag)) for tag in _TAGS_OF_IMAGE),
                *(str(block.get(tag)) for tag in _TAGS_OF_PHOTO),
            )
    except (ImageReadError, OSError, *PARSER_ERRORS):
        return name


def _two_of_each(kind_of: Mapping[str, Hashable]) -> dict[Hashable, list[str]]:
    """Return kind -> the first two images of that kind, or the only one."""
    found: dict[Hashable, list[str]] = {}
    for name in sorted(kind_of):
        some = found.setdefault(kind_of[name], [])
        if len(some) < 2:
            some.append(name)
    return found


def _read(path: Path) -> dict[str, _Imported]:
    """Read image name -> what COLMAP made of it."""
    with pycolmap.Database.open(path) as database:
        images = database.read_all_images()
        priors = read_priors(database, [image.image_id for image in images])
        return {
            image.name: (database.read_camera(image.camera_id), priors.get(image.image_id))
            for image in images
        }


def _write_camera(database: pycolmap.Database, camera: pycolmap.Camera) -> tuple[int, int]:
    """Write a copy of a camera, and its rig; return their ids."""
    new, rig = copy(camera), pycolmap.Rig()
    new.camera_id = database.write_camera(new)
    rig.add_ref_sensor(new.sensor_id)
    return new.camera_id, database.write_rig(rig)


def _write_image(
    database: pycolmap.Database,
    name: str,
    camera_id: int,
    rig_id: int,
    prior: pycolmap.PosePrior | None,
) -> None:
    """Write an image, its frame, and its prior without a position."""
    image, frame = pycolmap.Image(name=name, camera_id=camera_id), pycolmap.Frame()
    image.image_id = database.write_image(image)
    frame.rig_id = rig_id
    frame.add_data_id(image.data_id)
    database.write_frame(frame)
    if prior is not None:
        new = copy(prior)
        new.position = np.full(3, np.nan)
        new.coordinate_system = pycolmap.PosePriorCoordinateSystem.UNDEFINED
        write_prior(database, image.image_id, new, new=True)


def _why_not(photo: Path) -> str:
    """Return why COLMAP does not read a photo."""
    try:
        read_image(photo)
    except ImageReadError as error:
        return str(error)
    return "a format or a camera that COLMAP refuses; --verbose shows its reason"
