"""A model whose files claim what they do not hold is one line, and takes no memory."""

from __future__ import annotations

import shutil
import struct
import tracemalloc

import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import read_model
from disk_hloc.io.colmap.check_model import require_sound_files
from support.errors import one_line_error

FILES = ("cameras", "images", "points3D", "rigs", "frames")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A model with two rigs of two cameras."""
    folder = tmp_path_factory.mktemp("sound")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 2, 3
    options.num_points3D = 30
    pycolmap.synthesize_dataset(options).write(folder)
    return folder


@pytest.fixture
def model(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def test_sound_models_pass(sound):
    require_sound_files(sound)
    assert read_model(sound).num_reg_images() == 12


def test_models_from_before_rigs_pass(sound, tmp_path):
    for name in ("cameras", "images", "points3D"):
        shutil.copy(sound / f"{name}.bin", tmp_path)
    require_sound_files(tmp_path)


def test_text_is_left_to_colmap(sound, tmp_path):
    pycolmap.Reconstruction(sound).write_text(tmp_path)
    require_sound_files(tmp_path)
    assert read_model(tmp_path).num_reg_images() == 12


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 7, -1, -8])
def test_files_that_were_cut(model, name, kept):
    path = model / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DiskHlocError) as error:
        read_model(model)
    assert one_line_error(error, path, "broken")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [2**64 - 1, 2**63, 2**34, 0])
def test_counts_that_the_file_does_not_hold(model, name, count):
    path = model / f"{name}.bin"
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    tracemalloc.start()
    with pytest.raises(DiskHlocError) as error:
        require_sound_files(model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert one_line_error(error, path, f"{count}")
    assert peak < 1 << 20


def test_a_track_of_any_length(model):
    path = model / "points3D.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 8 + 43, 2**61)
    path.write_bytes(data)
    with pytest.raises(DiskHlocError) as error:
        read_model(model)
    assert one_line_error(error, path, "record 1 of 30")


def test_an_unknown_camera_model(model):
    path = model / "cameras.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 12, 99)
    path.write_bytes(data)
    with pytest.raises(DiskHlocError) as error:
        read_model(model)
    assert one_line_error(error, path, "no camera model 99")


@pytest.mark.parametrize("suffix", ["bin", "txt"])
def test_a_camera_without_pixels(sound, tmp_path, suffix):
    model = pycolmap.Reconstruction(sound)
    next(iter(model.cameras.values())).width = 0
    (model.write if suffix == "bin" else model.write_text)(tmp_path)
    with pytest.raises(DiskHlocError) as error:
        read_model(tmp_path)
    assert one_line_error(error, tmp_path, " has 0 x ")
