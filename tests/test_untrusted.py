"""Files that contain code: it is not run, and the error is one line."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import published
from disk_hloc.io.conf_files import read_conf
from disk_hloc.io.hloc.global_features import read_codebook
from disk_hloc.io.map_index import read_index, write_index
from disk_hloc.pipelines.aachen import read_conf as read_pipeline
from disk_hloc.weights import load_disk, load_loftr, load_network, load_posfeat
from support.errors import one_line_error
from support.map_indices import small_index


class Touch:
    """An object whose pickle creates a file when the pickle module loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The file that the code would create."""
    return tmp_path / "made"


def test_the_trap_works(made: Path) -> None:
    pickle.loads(pickle.dumps(Touch(made)))
    assert made.is_dir()


def load_another_network(path: Path) -> object:
    return load_network(path, "ALIKED", "score_head.0.weight")


@pytest.mark.parametrize("load", [load_disk, load_another_network, load_loftr, load_posfeat])
@pytest.mark.parametrize("form", ["pickle", "zip", "torch", "legacy"])
def test_weights(load, form: str, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    content = {"extractor": Touch(made)}
    match form:
        case "pickle":
            path.write_bytes(pickle.dumps(content))
        case "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
                file.writestr("archive/version", "3\n")
        case "torch":
            torch.save(content, path)
        case _:
            torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(DiskHlocError) as error:
        load(path)
    assert one_line_error(error, path, "code in it is not loaded")
    assert not made.exists()


def test_codebooks(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.codebook.npz"
    np.savez(path, centres=np.array([Touch(made)], dtype=object))
    with pytest.raises(DiskHlocError) as error:
        read_codebook(path)
    assert one_line_error(error, path)
    path.write_bytes(pickle.dumps(Touch(made)))
    with pytest.raises(DiskHlocError) as error:
        read_codebook(path)
    assert one_line_error(error, path)
    assert not made.exists()


def test_published_results(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache.npy"
    np.save(path, np.array([{1: 0.5}, Touch(made), []], dtype=object), allow_pickle=True)
    with pytest.raises(DiskHlocError) as error:
        published.read(path)
    assert one_line_error(error, path, "may run code")
    assert not made.exists()


def test_indices_of_maps(made: Path, tmp_path: Path) -> None:
    write_index(small_index(), tmp_path / "index")
    np.save(tmp_path / "index" / "xyz.npy", np.array([Touch(made)]), allow_pickle=True)
    with pytest.raises(DiskHlocError) as error:
        read_index(tmp_path / "index")
    assert one_line_error(error, tmp_path / "index", "cannot be read")
    (tmp_path / "index" / "xyz.npy").write_bytes(pickle.dumps(Touch(made)))
    with pytest.raises(DiskHlocError) as error:
        read_index(tmp_path / "index")
    assert one_line_error(error, tmp_path / "index", "cannot be read")
    assert not made.exists()


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [{}]",
        "!!python/object/new:os.mkdir [{}]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!unknown {{}}",
    ],
)
def test_confs(value: str, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(f"output: x\nmodel: {value.format(made)}\npreprocessing: {{}}\n")
    for read in (lambda: read_conf("extractors", path), lambda: read_pipeline(str(path))):
        with pytest.raises(DiskHlocError) as error:
            read()
        assert one_line_error(error, path, "could not determine a constructor")
    assert not made.exists()
