"""What a run that was stopped leaves for the next one: verified pairs, and mapped clusters.

They are kept in a folder that is named by the digest of all that they were made of, until a model
is complete.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap

from disk_hloc import __version__
from disk_hloc.io import colmap
from disk_hloc.io.digests import digest_of_data
from disk_hloc.io.replace import replaced


def place(parent: Path, database_path: Path, **settings: object) -> Path:
    """Return the folder of a run, and remove those of runs with other inputs.

    Args:
        parent: holds the folder.
        database_path: with all features and matches, not yet verified.
        settings: all else that the files depend on; plain data.
    """
    made_by = {"disk_hloc": __version__, "pycolmap": pycolmap.__version__}
    inputs = [colmap.digest_of_database(database_path), settings, made_by]
    folder = parent / digest_of_data(inputs)
    if parent.is_dir():
        for other in parent.iterdir():
            if other.name != folder.name:
                shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep(folder: Path, database_path: Path) -> None:
    """Keep a verified database in the folder of a run."""
    with replaced(folder / colmap.DATABASE) as partial:
        colmap.copy_database(database_path, partial)


def restore(folder: Path, database_path: Path) -> bool:
    """Replace a database by the verified one of a run that was stopped; False without one."""
    kept = folder / colmap.DATABASE
    if not kept.exists():
        return False
    colmap.copy_database(kept, database_path)
    return True
