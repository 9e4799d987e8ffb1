"""Models that are replaced as a whole, together with their database.

A model is built in ``models/.partial`` of its folder. Once it is complete and on the disk, that is
renamed to ``models/.complete``: from then on the new model counts. Its files are then moved to
their places, after those of the former model were removed. ``images.bin``, without which a folder
is not a model, is removed first and moved last, so that a reader never finds files of two models.

A run that is killed before the renaming leaves the former model as it was; one that is killed
after it leaves ``models/.complete``, and the next run moves what is in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pycolmap

from disk_hloc.errors import DiskHlocError, NoModel
from disk_hloc.io.output_folder import MARK, claimed
from disk_hloc.io.replace import sync, sync_all

from .model import COMPLETE, MODEL_FILES, read_model

DATABASE = "database.db"
# Beside a model in metres: where its origin is (disk_hloc.stages.georeference).
GEOREFERENCE = "georeference.json"
_PARTIAL = Path("models", ".partial")
# Moved first and last; every model has them.
_FIRST, _LAST = Path("cameras.bin"), Path("images.bin")


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to build a model in; it replaces that of ``folder`` at the end.

    After an error the former model is unchanged. With :class:`NoModel` the new database is kept:
    in ``folder`` if there is no model, else where it was built. ``error.database_path`` says where.

    Args:
        folder: the folder of the model, created if needed. Only files that a former run wrote are
            replaced: the model, ``database.db``, and the models in ``0/``, ``1/``, ....

    Raises:
        Busy: another process is building there.
    """
    with claimed(folder):
        partial, complete = folder / _PARTIAL, folder / COMPLETE
        if complete.exists():
            _place(complete, folder)
        _remove(partial)
        partial.mkdir(parents=True)
        try:
            yield partial
            sync_all(partial)
            partial.rename(complete)
            sync(complete.parent)
            _place(complete, folder)
        except NoModel as error:
            error.database_path = _keep_database(partial, folder)
            raise
        except BaseException:
            _remove(partial)
            raise
        finally:
            with suppress(OSError):  # it is not empty
                (folder / "models").rmdir()


def remove_model(folder: Path) -> None:
    """Remove the model that :func:`building` wrote to a folder, if there is one, and no more.

    Raises:
        Busy: another process is building there.
    """
    if not (folder / MARK).exists():
        return
    with claimed(folder):
        _remove(folder / COMPLETE)
        _remove(folder / _PARTIAL)
        _remove_former(folder)
        with suppress(OSError):  # it is not empty
            (folder / "models").rmdir()
    if [path.name for path in folder.iterdir()] == [MARK]:
        (folder / MARK).unlink()
        folder.rmdir()


def write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a model, and read it again: pycolmap does not notice that the disk is full.

    Raises:
        DiskHlocError: the files are not those of the model.
    """
    model.write(folder)
    try:
        whole = _figures(read_model(folder)) == _figures(model)
    except DiskHlocError:
        whole = False
    if not whole:
        free = shutil.disk_usage(folder).free / 2**20
        raise DiskHlocError(
            f"the model could not be written to {folder.parent.parent}: {free:.1f} MB are left on "
            "the disk; make room and run the same command again"
        )


def _figures(model: pycolmap.Reconstruction) -> tuple[int, ...]:
    return (
        model.num_cameras(),
        model.num_images(),
        model.num_reg_images(),
        model.num_points3D(),
        model.compute_num_observations(),
    )


def _place(complete: Path, folder: Path) -> None:
    """Move a complete model to its place. If this is interrupted, it can be called again."""
    if (complete / _FIRST).exists():  # nothing has been moved yet
        _remove_former(folder)
    for path in (path for path in complete.rglob("*") if path.is_dir()):
        (folder / path.relative_to(complete)).mkdir(parents=True, exist_ok=True)
    names = {path.relative_to(complete) for path in complete.rglob("*") if not path.is_dir()}
    for name in sorted(names, key=lambda name: (name == _LAST, name != _FIRST, name)):
        (complete / name).replace(folder / name)
    sync(folder)
    shutil.rmtree(complete)


def _remove_former(folder: Path) -> None:
    """Remove what a former run wrote, and nothing else."""
    databases = [DATABASE + suffix for suffix in ("", "-wal", "-shm", "-journal")]
    for name in sorted(
        (*MODEL_FILES, *databases, GEOREFERENCE), key=lambda name: name != _LAST.name
    ):
        (folder / name).unlink(missing_ok=True)
    numbered = [*folder.glob("*"), *(folder / "models").glob("*")]  # as COLMAP, and as hloc
    for model in (path for path in numbered if path.name.isdigit() and path.is_dir()):
        for name in MODEL_FILES:
            (model / name).unlink(missing_ok=True)
        with suppress(OSError):  # it has files of others
            model.rmdir()


def _keep_database(partial: Path, folder: Path) -> Path:
    database = partial / DATABASE
    if (folder / _LAST).exists():
        return database
    for suffix in ("-wal", "-shm", "-journal"):
        (folder / (DATABASE + suffix)).unlink(missing_ok=True)
    kept = database.replace(folder / DATABASE)
    _remove(partial)
    return kept


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
