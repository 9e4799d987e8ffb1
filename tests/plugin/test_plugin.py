"""DISK in hloc: through hloc's own functions, files and processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

import disk_hloc
from disk_hloc import weights
from disk_hloc.errors import DiskHlocError
from disk_hloc.plugin import find_provider, hloc_module
from disk_hloc.stages import extract
from support.errors import one_line_error

pytestmark = pytest.mark.skipif(find_provider() is None, reason="needs hloc")


def run(code: str, folder: Path, **environment: str) -> str:
    """Run Python in a process of its own, in which nothing is registered yet."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PROVIDER": find_provider() or "", **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_hlocs_own_disk_and_ours_give_the_same(sacre_coeur: Path, tmp_path: Path) -> None:
    # hloc's own loads its weights through torch hub.
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    shutil.copy(weights.resolve("depth"), cache / "depth-save.pth")
    code = f"""
import importlib, json, os
from pathlib import Path
import disk_hloc
from disk_hloc.plugin import import_provider
if {{registered}}:
    disk_hloc.register()
hloc = import_provider().__name__
extract_features = importlib.import_module(hloc + ".extract_features")
images = Path({str(sacre_coeur)!r})
names = sorted(path.name for path in images.iterdir())[:2]
conf = extract_features.confs["disk"]
if {{registered}}:
    # Ours lie between pixels, if not told otherwise.
    conf["model"]["subpixel"] = False
extract_features.main(
    conf, images, image_list=names, feature_path=Path("{{output}}")
)
model = importlib.import_module(hloc + ".extractors.disk")
print(json.dumps([model.__name__, model.__file__]))
"""
    out = {}
    for output, registered in (("theirs.h5", False), ("ours.h5", True)):
        printed = run(
            code.format(output=output, registered=registered),
            tmp_path,
            TORCH_HOME=str(tmp_path / "torch"),
        )
        out[output] = json.loads(printed.splitlines()[-1])
    assert out["theirs.h5"][0] == out["ours.h5"][0]
    assert Path(out["ours.h5"][1]).is_relative_to(Path(disk_hloc.__file__).parent)
    assert not Path(out["theirs.h5"][1]).is_relative_to(Path(disk_hloc.__file__).parent)
    with h5py.File(tmp_path / "theirs.h5") as theirs, h5py.File(tmp_path / "ours.h5") as ours:
        assert len(theirs) == len(ours) == 2
        for name in theirs:
            np.testing.assert_array_equal(
                ours[name]["keypoints"][()], theirs[name]["keypoints"][()]
            )
            # One step of float16 at 0.5.
            np.testing.assert_allclose(
                ours[name]["descriptors"][()].astype(np.float32),
                theirs[name]["descriptors"][()].astype(np.float32),
                atol=5e-4,
            )
            # One step of float16 at 512.
            np.testing.assert_allclose(
                ours[name]["scores"][()].astype(np.float32),
                theirs[name]["keypoint_scores" if "keypoint_scores" in theirs[name] else "scores"],
                atol=0.5,
            )


def test_hlocs_own_functions_build_a_model(scene: Path, tmp_path: Path) -> None:
    disk_hloc.register()
    extract_features = hloc_module("extract_features")
    match_features = hloc_module("match_features")
    features = extract_features.main(
        extract_features.confs["disk-2k"], scene / "images", feature_path=tmp_path / "feats.h5"
    )
    pairs = tmp_path / "pairs.txt"
    hloc_module("pairs_from_exhaustive").main(pairs, features=features)
    model = None
    for name in ("disk", "disk-ratio", "disk+lightglue"):
        conf = match_features.confs[name]
        matches = match_features.main(conf, pairs, features, matches=tmp_path / f"{name}.h5")
        model = hloc_module("reconstruction").main(
            tmp_path / name, scene / "images", pairs, features, matches
        )
        assert model.num_reg_images() == 5
        assert model.num_points3D() > 300


def test_registering_twice_changes_nothing_and_the_rest_of_hloc_is_untouched(
    tmp_path: Path,
) -> None:
    code = """
import importlib.util, json, pkgutil, sys
import disk_hloc
from disk_hloc.plugin import import_provider
if {registered}:
    disk_hloc.register(); hloc = disk_hloc.register()
else:
    hloc = import_provider()
report = {{}}
for kind, runner in (("extractors", "extract_features"), ("matchers", "match_features")):
    package = importlib.import_module(hloc.__name__ + "." + kind)
    confs = importlib.import_module(hloc.__name__ + "." + runner).confs
    files = {{}}
    for module in pkgutil.iter_modules(package.__path__):
        name = package.__name__ + "." + module.name
        files[module.name] = importlib.util.find_spec(name).origin
    loaded = sorted(name for name in sys.modules if name.startswith(package.__name__ + "."))
    report[kind] = dict(path=len(package.__path__), files=files, confs=confs, loaded=loaded)
print(json.dumps(report))
"""
    before, after = (
        json.loads(run(code.format(registered=flag), tmp_path).splitlines()[-1])
        for flag in (False, True)
    )
    new_confs = {
        "extractors": {"disk-2k", "disk-epipolar", "aliked"},
        "matchers": {"disk", "disk-ratio", "disk+lightglue", "sift-ratio"},
    }
    for kind, names in new_confs.items():
        assert after[kind]["path"] == before[kind]["path"]
        for name, file in before[kind]["files"].items():
            assert (after[kind]["files"][name] == file) == (name != "disk" or kind == "matchers")
        assert names <= set(after[kind]["confs"])
        for name, conf in before[kind]["confs"].items():
            if name not in names:
                assert after[kind]["confs"][name] == conf
        # None of our models is imported before it is used.
        assert after[kind]["loaded"] == before[kind]["loaded"]
    # hloc's own conf stands, with our model under it.
    assert after["extractors"]["confs"]["disk"] == before["extractors"]["confs"]["disk"]


def test_hloc_loads_each_of_our_models(tmp_path: Path) -> None:
    code = """
import importlib, json
import disk_hloc
from disk_hloc import models
from disk_hloc.plugin import import_provider
disk_hloc.register()
hloc = import_provider().__name__
dynamic_load = importlib.import_module(hloc + ".utils.base_model").dynamic_load
for kind, package in (
    ("extractors", "extractors"), ("matchers", "matchers"), ("dense", "matchers")
):
    for name in models.names(kind):
        loaded = dynamic_load(importlib.import_module(f"{hloc}.{package}"), name)
        assert loaded.default_conf == models.load(kind, name).default_conf, name
        assert loaded.required_inputs == models.load(kind, name).required_data_keys, name
model = dynamic_load(importlib.import_module(hloc + ".matchers"), "disk")({"ratio_threshold": 0.9})
print(json.dumps(model.model.conf))
"""
    printed = run(code, tmp_path).splitlines()[-1]
    assert json.loads(printed) == {"ratio_threshold": 0.9, "distance_threshold": None}


def test_a_log_in_the_current_folder_is_not_emptied(tmp_path: Path) -> None:
    """imcui's hloc opens log.txt in the current folder for writing when it is imported."""
    (tmp_path / "log.txt").write_text("precious")
    run("import disk_hloc; disk_hloc.register()", tmp_path)
    assert (tmp_path / "log.txt").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_hlocs_command_lines_have_our_confs(scene: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "disk_hloc.plugin"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    usage = call("extract_features", "--help")
    assert usage.returncode == 0, usage.stderr
    assert "disk-2k" in usage.stdout
    assert "netvlad" in usage.stdout
    assert "reconstruction" in call("--help").stdout
    unknown = call("no_such_module")
    assert unknown.returncode == 1
    assert "no_such_module" in unknown.stderr
    done = call(
        "extract_features",
        *("--conf", "disk-2k", "--image_dir", str(scene / "images"), "--export_dir", "out"),
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "out" / "feats-disk-n2048-r1024.h5") as file:
        assert len(file) == 5


def test_a_photo_that_hloc_cannot_read_is_an_error_of_one_line(scene: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(scene / "images", images)
    (images / "0001b.jpg").write_bytes(b"no image")
    conf = {
        "output": "feats-dog",
        "model": {"name": "dog"},
        "preprocessing": {"grayscale": True, "resize_max": 200},
    }
    with pytest.raises(DiskHlocError) as error:
        extract.main(conf, images, tmp_path / "features.h5")
    assert one_line_error(error, images / "0001b.jpg", "cannot be read", "hloc")


@pytest.mark.parametrize("registered", ["before hloc is imported", "after"])
def test_the_calls_of_nerfstudio(data: Path, tmp_path: Path, registered: str) -> None:
    # As nerfstudio.process_data.hloc_utils.run_hloc makes them: `--sfm-tool hloc --feature-type
    # disk --matcher-type disk+lightglue`, a list of names, one camera, an OPENCV model.
    images = tmp_path / "images"
    images.mkdir()
    for number in (3, 4, 5, 6):
        photo = cv2.imread(str(data / f"fountain_p11/images/{number:04d}.jpg"))
        small = cv2.resize(photo, (768, 512), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(images / f"frame_{number:05d}.jpg"), small)
    code = f"""
import importlib, os
from pathlib import Path
import disk_hloc
import pycolmap
if {registered != "after"}:
    disk_hloc.register()
hloc = os.environ["PROVIDER"]
extract_features, match_features, pairs_from_exhaustive, reconstruction = (
    importlib.import_module(f"{{hloc}}.{{name}}")
    for name in ("extract_features", "match_features", "pairs_from_exhaustive", "reconstruction")
)
if {registered == "after"}:
    disk_hloc.register()
image_dir, outputs = Path("images"), Path("outputs")
outputs.mkdir()
sfm_pairs, features, matches = (outputs / x for x in ("pairs.txt", "features.h5", "matches.h5"))
feature_conf, matcher_conf = extract_features.confs["disk"], match_features.confs["disk+lightglue"]
feature_conf["model"]["max_keypoints"] = 1000
references = [p.relative_to(image_dir).as_posix() for p in image_dir.iterdir()]
extract_features.main(feature_conf, image_dir, image_list=references, feature_path=features)
pairs_from_exhaustive.main(sfm_pairs, image_list=references)
match_features.main(matcher_conf, sfm_pairs, features=features, matches=matches)
image_options = pycolmap.ImageReaderOptions(camera_model="OPENCV")
model = reconstruction.main(
    outputs / "colmap" / "sparse" / "0", image_dir, sfm_pairs, features, matches,
    camera_mode=pycolmap.CameraMode.SINGLE, image_options=image_options.todict(), verbose=False,
)
print("registered", model.num_reg_images())
"""
    # COLMAP guesses the focal length, and begins at random: it may leave one photo out.
    registered = re.findall(r"registered (\d)", run(code, tmp_path))
    assert registered in (["3"], ["4"])
    with h5py.File(tmp_path / "outputs/features.h5") as file:
        # What hloc's loop loses.
        assert file["frame_00004.jpg/keypoints"].dtype == np.float16
