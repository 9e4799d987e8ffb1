"""Where the model is, of a folder that a command made."""

from __future__ import annotations

from pathlib import Path

from disk_hloc.errors import DiskHlocError

from .map_folder import is_map, read_map

# In the output folder of a reconstruction: its models, and the largest in metres.
SFM = "sfm"
GEOREFERENCED = "georeferenced"


def find_model(source: Path) -> Path:
    """Return the folder of the model that a folder holds.

    Args:
        source: the output folder of ``disk-hloc reconstruct``, whose model in metres counts if it
            has one; a map; or the folder of a COLMAP model.

    Raises:
        DiskHlocError: it holds no model.
    """
    if is_map(source):
        return read_map(source).model
    for folder in (source / GEOREFERENCED, source / SFM, source):
        if any((folder / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
            return folder
    raise DiskHlocError(
        f"{source} has no model: expected an output folder of disk-hloc reconstruct, a map, or the "
        "folder of a COLMAP model"
    )
