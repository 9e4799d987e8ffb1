"""What is exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io import colmap
from disk_hloc.io.gps import LocalFrame
from disk_hloc.io.masks import Masks
from disk_hloc.io.sizes import photo_sizes, require_same_sizes


@dataclass(frozen=True)
class Source:
    """A model with what belongs to it.

    Attributes:
        model: the model.
        model_dir: its folder.
        image_dir: the photos, or None.
        masks: where something is to be seen, or None.
        frame: of a georeferenced model, or None.
    """

    model: pycolmap.Reconstruction
    model_dir: Path
    image_dir: Path | None
    masks: Masks | None
    frame: LocalFrame | None

    def images(self) -> list[pycolmap.Image]:
        """Return the registered images, by name."""
        return sorted(colmap.registered_images(self.model), key=lambda image: image.name)

    def photos(self, target: str) -> Path:
        """Return the folder of the photos, after a look at whether they are those of the model.

        Raises:
            DiskHlocError: it was not given, lacks a photo, or a photo has another size.
        """
        if self.image_dir is None:
            raise DiskHlocError(f"{target} has pictures: give the folder of the photos (--images)")
        names = [image.name for image in self.images()]
        missing = [name for name in names if not (self.image_dir / name).is_file()]
        if missing:
            raise DiskHlocError(
                f"photos of {self.model_dir} are missing from {self.image_dir}: {listing(missing)}"
            )
        cameras = {
            name: (camera.width, camera.height)
            for name, camera in colmap.cameras_of(self.model).items()
        }
        require_same_sizes(
            photo_sizes(self.image_dir, names), f"the photos of {self.image_dir}",
            cameras, f"the cameras of {self.model_dir}",
        )  # fmt: skip
        return self.image_dir


def require_models(source: Source, known: Sequence[str], target: str) -> None:
    """Check that a format knows the cameras of a model.

    Args:
        source: the model.
        known: COLMAP's camera models that the format can express.
        target: the format's name, for the error.

    Raises:
        DiskHlocError: it does not know one.
    """
    used = {source.model.cameras[image.camera_id].model.name for image in source.images()} - set(
        known
    )
    if used:
        raise DiskHlocError(
            f"{target} has no camera like {listing(sorted(used))}, only {', '.join(known)}: export "
            "undistorted first, and that model then"
        )


def require_words(source: Source, target: str) -> None:
    """Check that no name has white space, at which a format ends names.

    Raises:
        DiskHlocError: a name has.
    """
    names = [image.name for image in source.images() if len(image.name.split()) != 1]
    if names:
        raise DiskHlocError(
            f"{target} ends names at white space, so it cannot hold {listing(names)}: rename these "
            "photos, and reconstruct them again"
        )
