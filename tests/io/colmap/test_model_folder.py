"""Models are replaced as a whole, whenever the process is killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pycolmap
import pytest

from disk_hloc.errors import Busy, DiskHlocError, NoModel
from disk_hloc.io import colmap
from disk_hloc.io.colmap import model_folder
from disk_hloc.io.output_folder import MARK


def model_of(num_images: int) -> pycolmap.Reconstruction:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig = num_images, 1
    options.num_frames_per_rig = 1
    options.num_points3D = 10
    return pycolmap.synthesize_dataset(options)


def build(folder: Path, num_images: int) -> None:
    """Build a model whose database and second model have the same number in them."""
    model = model_of(num_images)
    with colmap.building(folder) as partial:
        (partial / "database.db").write_text(str(num_images))
        (partial / "models" / "1").mkdir(parents=True)
        model.write(partial / "models" / "1")
        colmap.write_model(model, partial)


def fail(folder: Path, error: BaseException) -> None:
    """Raise an error when a model of four images is written."""
    with colmap.building(folder) as partial:
        (partial / "database.db").write_text("4")
        model_of(4).write(partial)
        raise error


def found(folder: Path) -> tuple[int, int, int] | None:
    """The numbers in a folder's model, database and second model; None without a model."""
    if not (folder / "images.bin").exists():
        return None
    return (
        colmap.read_model(folder).num_images(),
        int((folder / "database.db").read_text()),
        colmap.read_model(folder / "models" / "1").num_images(),
    )


def test_a_new_model_replaces_the_former(tmp_path: Path) -> None:
    build(tmp_path, 3)
    assert found(tmp_path) == (3, 3, 3)
    (tmp_path / "database.db-wal").touch()  # of the former database
    shutil.copytree(tmp_path / "models" / "1", tmp_path / "models" / "0")
    for name in ("notes.txt", "models/mine/cameras.bin", "models/0/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("the user's")
    build(tmp_path, 4)
    assert found(tmp_path) == (4, 4, 4)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        ".disk_hloc.lock", "database.db", "notes.txt", "models/mine/cameras.bin",
        "models/0/notes.txt",
        *colmap.MODEL_FILES, *(f"models/1/{name}" for name in colmap.MODEL_FILES),
    }  # fmt: skip


@pytest.mark.parametrize("error", [DiskHlocError("no"), KeyboardInterrupt()])
def test_an_error_leaves_the_former_model(error: BaseException, tmp_path: Path) -> None:
    build(tmp_path, 3)
    with pytest.raises(type(error)):
        fail(tmp_path, error)
    assert found(tmp_path) == (3, 3, 3)
    assert not (tmp_path / "models" / ".partial").exists()


class Killed(BaseException):
    """Stands for a kill: nothing is cleaned up."""


def test_a_kill_at_any_step_leaves_one_model_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the folder is the last one once."""
    former = tmp_path / "former"
    build(former, 3)
    step = outcomes = 0
    seen = set()
    while True:
        folder = tmp_path / f"killed_{step}"
        shutil.copytree(former, folder)
        calls = 0

        def counted(call, step: int = step):
            def either(*args, **options):
                nonlocal calls
                if calls == step:
                    raise Killed
                calls += 1
                return call(*args, **options)

            return either

        with monkeypatch.context() as patch:
            for target, names in (
                (os, ("rename", "replace", "unlink", "rmdir", "mkdir")),
                (shutil, ("rmtree",)),
                (model_folder, ("sync",)),
            ):
                for name in names:
                    patch.setattr(target, name, counted(getattr(target, name)))
            try:
                build(folder, 4)
            except Killed:
                finished = False
            else:
                finished = True
        seen.add(found(folder))
        # The next run fails: what it finds is one of the two models, in its place.
        with pytest.raises(DiskHlocError, match="next"), colmap.building(folder):
            raise DiskHlocError("next")
        outcomes |= {(3, 3, 3): 1, (4, 4, 4): 2}[found(folder)]
        if finished:
            break
        step += 1
    assert step > 20
    assert outcomes == 3
    assert seen == {(3, 3, 3), None, (4, 4, 4)}


def test_a_reader_is_told_that_the_model_is_not_in_its_place(tmp_path: Path) -> None:
    complete = tmp_path / "models" / ".complete"
    complete.mkdir(parents=True)
    model_of(3).write(complete)
    with pytest.raises(DiskHlocError, match="run it again"):
        colmap.read_model(tmp_path)


def test_a_model_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "sfm"
    colmap.remove_model(folder)  # nothing there
    for others in ([], ["notes.txt"]):
        build(folder, 3)
        (folder / "georeference.json").write_text("{}")
        for name in others:
            (folder / name).touch()
        colmap.remove_model(folder)
        kept = [path.name for path in folder.iterdir()] if folder.exists() else []
        assert [name for name in kept if name != MARK] == others
    by_hand = tmp_path / "by_hand"
    by_hand.mkdir()
    model_of(3).write(by_hand)
    colmap.remove_model(by_hand)
    assert (by_hand / "images.bin").exists()


def test_a_database_without_a_model_is_kept(tmp_path: Path) -> None:
    def kept() -> Path:
        with pytest.raises(NoModel) as raised:
            fail(tmp_path, NoModel("no model"))
        assert raised.value.database_path is not None
        assert raised.value.database_path.read_text() == "4"
        return raised.value.database_path

    assert kept() == tmp_path / "database.db"
    build(tmp_path, 3)
    assert kept() != tmp_path / "database.db"
    assert found(tmp_path) == (3, 3, 3)


def test_two_processes_do_not_build_in_one_folder(tmp_path: Path) -> None:
    with colmap.building(tmp_path) as partial:
        with pytest.raises(Busy), colmap.building(tmp_path):
            pass
        assert partial.exists()
        with colmap.building(tmp_path / "other") as other:
            model_of(3).write(other)


@pytest.mark.parametrize("name", ["points3D.bin", "images.bin", "cameras.bin"])
def test_a_model_that_is_not_written_whole_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        """A model whose writing ends early, which pycolmap does not notice."""

        def __init__(self, model: pycolmap.Reconstruction) -> None:
            self.model = model

        def __getattr__(self, name: str) -> object:
            return getattr(self.model, name)

        def write(self, folder: Path) -> None:
            self.model.write(folder)
            with (folder / name).open("r+b") as file:
                file.truncate(8)

    build(tmp_path, 3)
    with pytest.raises(DiskHlocError, match="could not be written"), colmap.building(tmp_path) as p:
        colmap.write_model(FullDisk(model_of(3)), p)
    assert found(tmp_path) == (3, 3, 3)
