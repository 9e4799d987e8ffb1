"""The command as a user types it: output, exit codes and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pycolmap
import pytest

from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.store import journal_path
from disk_hloc.weights import CHECKPOINTS

COMMAND = [sys.executable, "-m", "disk_hloc"]


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


def test_stages_one_by_one(scene: Path, tmp_path: Path) -> None:
    images = str(scene / "images")
    for arguments in (
        ("extract", images, "f.h5", "--conf", "disk-2k"),
        ("pairs", "exhaustive", "f.h5", "p.txt"),
        ("match", "f.h5", "p.txt", "m.h5", "--conf", "disk-ratio"),
    ):
        done = call(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "m.h5") as file:
        assert sum(len(file[first]) for first in file) == 10


def test_reconstruct_prints_the_figures_of_its_summary(scene: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(scene / "images", images)
    (images / "broken.png").write_text("no image")
    done = call(
        tmp_path,
        "reconstruct",
        "images",
        "out",
        "--extractor",
        "disk-2k",
        "--camera-mode",
        "single",
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for key in ("registered", "points3D", "observations", "mean_reprojection_error"):
        assert f"{key.replace('_', ' ')} " in done.stdout
        assert str(summary[key]) in done.stdout
    assert len(pycolmap.Reconstruction(tmp_path / "out" / "sfm").cameras) == 1
    # The model is there, and so is the one image that could not be read.
    assert done.returncode == 3
    assert last_line(done).startswith("Error: 1 image could not be read and was left out: ")
    assert "broken.png" in last_line(done)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "empty", "f.h5"), "no image in empty"),
        (("extract", "text", "f.h5"), "no image in text"),
        (("extract", "absent", "f.h5"), "there is no folder absent"),
        (("extract", "images", "f.h5", "--conf", "sisk"), "known extractors: disk, disk-2k"),
        (("extract", "images", "f.h5", "--device", "abacus"), "device 'abacus'"),
        (("extract", "images", "text/a.txt"), "text/a.txt exists and is not an HDF5 file"),
        (
            ("match", "f.h5", "space.txt", "m.h5"),
            "space.txt, line 1: expected two names, found 'my photo.jpg b.jpg'",
        ),
        (("match", "absent.h5", "p.txt", "m.h5"), "there is no file absent.h5"),
        (("match", "f.h5", "p.txt", "m.h5", "--conf", "glue"), "known matchers: disk, disk-ratio"),
        (("reconstruct", "empty", "out"), "no image in empty"),
    ],
)
def test_bad_input_is_one_line(scene: Path, tmp_path: Path, arguments, message) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("text")
    (tmp_path / "images").symlink_to(scene / "images")
    (tmp_path / "space.txt").write_text("my photo.jpg b.jpg\n")
    (tmp_path / "p.txt").write_text("a.jpg b.jpg\n")
    done = call(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert last_line(done).startswith("Error: ")
    assert message in last_line(done)


def test_missing_weights_name_the_places(scene: Path, tmp_path: Path) -> None:
    """Nothing in the cache and no way to download: this machine has no epipolar weights."""
    done = call(
        tmp_path,
        *("extract", str(scene / "images"), "f.h5", "--conf", "disk-epipolar"),
        TORCH_HOME=str(tmp_path / "torch"),
        # A proxy that nobody listens on, so that the test needs no network and uses none.
        https_proxy="http://127.0.0.1:9",
    )
    assert done.returncode == 1
    for place in ("DISK_HLOC_WEIGHTS (not set)", "torch hub's cache", "Download it elsewhere"):
        assert place in last_line(done)
    assert not (tmp_path / "f.h5").exists()


def test_interrupted_extraction_resumes(scene: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(16):
        shutil.copy(scene / "images" / "0000.jpg", images / f"{i:02}.jpg")
    features = tmp_path / "f.h5"
    arguments = ["extract", "images", "f.h5", "--conf", "disk-2k"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    journal = journal_path(features)
    while not (journal.exists() and journal.stat().st_size > 1_000_000):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to resume" in errors
    assert "Traceback" not in errors
    assert not features.exists()
    done = call(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    kept = re.search(r"(\d+) of 16 to extract", done.stderr)
    assert kept is not None
    assert 0 < int(kept[1]) < 16
    assert len(list_features(features)) == 16


def test_doctor_reports_what_is_installed(tmp_path: Path) -> None:
    done = call(tmp_path, "doctor", "--json")
    report = json.loads(done.stdout)
    assert report["versions"]["pycolmap"] == pycolmap.__version__
    assert set(report["weights"]) == set(CHECKPOINTS)
    assert report["weights"]["depth"]["path"].endswith(".pth")
    assert report["hloc"]["stages"]["reconstruct"]["engine"] in ("hloc", "native")
    assert done.returncode == (1 if report["problems"] else 0)
    assert "Weights" in call(tmp_path, "doctor").stdout


def test_help_lists_the_commands(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    for command in ("extract", "pairs", "match", "reconstruct", "doctor", "demo", "compare"):
        assert command in done.stdout


def test_writing_a_png_beside_pycolmap_does_not_crash(tmp_path: Path) -> None:
    """pycolmap 4.2's wheel leaks its zlib; without our guard this aborts the process."""
    code = """
import disk_hloc
import pycolmap
import numpy as np
from PIL import Image
rng = np.random.default_rng(0)
Image.fromarray(rng.integers(0, 255, (600, 800, 3), dtype=np.uint8)).save("a.png")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=60, capture_output=True
    )
    assert done.returncode == 0


@pytest.mark.skipif(
    sys.platform != "linux" or pycolmap.__version__.startswith("3."),
    reason="pycolmap 3, and other systems, keep the two zlib apart",
)
def test_pycolmap_before_our_guard_is_an_error_that_says_so(tmp_path: Path) -> None:
    for first, expected in (("pycolmap", 1), ("pycolmap, zlib", 1), ("zlib, pycolmap", 0)):
        done = subprocess.run(
            [sys.executable, "-c", f"import {first}\nimport disk_hloc"],
            cwd=tmp_path, check=False, timeout=60, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == expected
        assert expected == 0 or "import disk_hloc (or zlib) before pycolmap" in done.stderr
