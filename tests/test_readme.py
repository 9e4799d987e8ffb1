"""The README's snippets run as they are typed.

Each runs in a folder of its own that has the drawn scene's photos in PHOTOS/ and their masks in
MASKS/, the names that the README uses. Commands that set an environment up (make, pip) are checked,
not run: they would run these tests again, or change the installation that is tested.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from disk_hloc.plugin import find_provider

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [snippet for language, snippet in SNIPPETS if language == "sh"]
PYTHON = [snippet for language, snippet in SNIPPETS if language == "python"]
# hloc's copy in imcui, under the name that hloc has from git.
AS_HLOC = 'import sys, imcui.hloc; sys.modules["hloc"] = imcui.hloc\n'


@pytest.fixture
def folder(scene: Path, tmp_path: Path) -> Path:
    """A folder with PHOTOS/ and MASKS/, which ignore the lower third of each photo."""
    shutil.copytree(scene / "images", tmp_path / "PHOTOS")
    (tmp_path / "MASKS").mkdir()
    for photo in (tmp_path / "PHOTOS").iterdir():
        height, width = cv2.imread(str(photo)).shape[:2]
        mask = np.full((height, width), 255, np.uint8)
        mask[height * 2 // 3 :] = 0
        cv2.imwrite(str(tmp_path / "MASKS" / f"{photo.name}.png"), mask)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    """Run a command with the programs of this installation first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr[-3000:]}"
    return done.stdout


def check_make(words: list[str]) -> None:
    run(["make", "--dry-run", *words[1:]], ROOT)


def check_pip(words: list[str]) -> None:
    """What is installed is this project, or a package that its extras name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = " ".join(setup["options.extras_require"].values())
    assert words[1] == "install"
    for wanted in [word for word in words[2:] if not word.startswith("-")]:
        assert wanted == "." or wanted in extras


@pytest.mark.parametrize("snippet", SHELL, ids=lambda snippet: snippet.splitlines()[-1][:40])
def test_shell_snippets_run(snippet: str, folder: Path) -> None:
    for line in snippet.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            check_make(words)
        elif words[0] == "pip":
            check_pip(words)
        else:
            run(words, folder)
    for out in folder.glob("OUT"):
        assert {"features.h5", "pairs.txt", "matches.h5"} <= {path.name for path in out.iterdir()}
        summary = json.loads((out / "summary.json").read_text())
        assert summary["registered"] == len(list((folder / "PHOTOS").iterdir()))
        assert pycolmap.Reconstruction(out / "sfm").num_points3D() == summary["points3D"]


def test_there_are_snippets_to_run() -> None:
    typed = " ".join(SHELL)
    assert PYTHON
    assert all(command in typed for command in ("make demo", "make test", "disk-hloc reconstruct"))


@pytest.mark.hloc
@pytest.mark.skipif(find_provider() is None, reason="needs hloc")
@pytest.mark.parametrize("snippet", PYTHON)
def test_python_snippets_run(snippet: str, folder: Path) -> None:
    prelude = AS_HLOC if find_provider() == "imcui.hloc" else ""
    check = "\nassert model.num_reg_images() == len(list(images.iterdir())), model.summary()\n"
    run([sys.executable, "-c", prelude + snippet + check], folder)
