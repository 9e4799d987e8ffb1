"""Extraction and matching are killed again and again, and finish as if nothing had happened.

``pytest tests/test_kills.py --kills 200`` kills more often.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from itertools import combinations
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.hloc.matches import list_pairs
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.inputs import inputs_path
from disk_hloc.io.store import journal_path
from support.processes import processes
from support.stage_runs import run, run_until

STAGES = ["extract", "extract more", "match"]


def start(function: Callable[..., None], *arguments: object) -> BaseProcess:
    process = processes.Process(target=function, args=arguments)
    process.start()
    return process


@pytest.fixture(scope="module")
def whole(sacre_coeur: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stage -> the folder in which it ran undisturbed."""
    names = sorted(path.name for path in sacre_coeur.iterdir())
    folders = {}
    for stage in STAGES:
        folders[stage] = folder = tmp_path_factory.mktemp("whole")
        if stage == "extract more":
            (folder / "some.txt").write_text("\n".join(names[:4]))
            start(run, "extract some", sacre_coeur, folder).join(60)
            shutil.copy(folder / "features.h5", folder / "some.h5")
        elif stage == "match":
            write_pairs(folder / "pairs.txt", combinations(names, 2))
            shutil.copy(folders["extract"] / "features.h5", folder)
        process = start(run, stage, sacre_coeur, folder)
        process.join(60)
        assert process.exitcode == 0
        assert len(list_features(folder / "features.h5")) == 10
    assert len(list_pairs(folder / "matches.h5")) == 45
    return folders


def prepare(stage: str, whole: Path, folder: Path) -> Path:
    """Return the file for the stage to make, in a folder with what it needs."""
    folder.mkdir()
    if stage == "extract more":
        shutil.copy(whole / "some.h5", folder / "features.h5")
    elif stage == "match":
        for name in ("features.h5", "pairs.txt"):
            shutil.copy(whole / name, folder)
    return folder / ("matches.h5" if stage == "match" else "features.h5")


def check(path: Path, whole: Path) -> None:
    """Check that a kill leaves the old file or a whole one, and only what the next run removes."""
    states = [whole / path.name, whole / "some.h5"]
    if path.exists():
        assert path.read_bytes() in [state.read_bytes() for state in states if state.exists()]
    left = {other.name for other in path.parent.iterdir()} - {"features.h5", "pairs.txt"}
    inputs = inputs_path(path).name
    known = {path.name, journal_path(path).name, inputs, f"{inputs}.partial"}
    assert left <= {*known, f".{path.name}.partial"}


@pytest.mark.parametrize("stage", STAGES)
def test_kills_at_random_moments(
    stage: str,
    sacre_coeur: Path,
    whole: dict[str, Path],
    tmp_path: Path,
    pytestconfig: pytest.Config,
) -> None:
    chance = random.Random(stage)
    folder = tmp_path / "timed"
    path = prepare(stage, whole[stage], folder)
    begin = time.monotonic()
    start(run, stage, sacre_coeur, folder).join(120)
    duration = time.monotonic() - begin
    kills, trials, most_lost = 0, 0, 0.0
    while kills < pytestconfig.getoption("--kills") // len(STAGES):
        trials += 1
        folder = tmp_path / f"{stage}{trials}"
        path = prepare(stage, whole[stage], folder)
        while True:
            process = start(run, stage, sacre_coeur, folder)
            begin = time.time()
            process.join(chance.uniform(0, 1.1 * duration))
            ended = process.exitcode is not None
            process.kill()
            process.join(30)
            check(path, whole[stage])
            if ended:
                assert process.exitcode == 0
                break
            kills += 1
            written = journal_path(path)
            if written.exists():
                most_lost = max(most_lost, time.time() - max(begin, written.stat().st_mtime))
        assert path.read_bytes() == (whole[stage] / path.name).read_bytes()
        assert not journal_path(path).exists()
        assert not (folder / f".{path.name}.partial").exists()
    print(f"{stage}: {kills} kills in {trials} runs, at most {most_lost:.2f} s of work lost")
    assert most_lost < 10


@pytest.mark.parametrize(
    "point",
    [
        "first entry",
        "last entry",
        "before it has its name",
        "once it has its name",
        "without its journal",
    ],
)
@pytest.mark.parametrize("stage", STAGES)
def test_kills_while_the_file_is_made(
    stage: str, point: str, sacre_coeur: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    path = prepare(stage, whole[stage], tmp_path / "killed")
    process = start(run_until, point, stage, sacre_coeur, path.parent)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    check(path, whole[stage])
    has_its_name = point in ("once it has its name", "without its journal")
    assert has_its_name == (
        path.exists() and path.read_bytes() == (whole[stage] / path.name).read_bytes()
    )
    process = start(run, stage, sacre_coeur, path.parent)
    process.join(60)
    assert process.exitcode == 0
    check(path, whole[stage])
    assert {other.suffix for other in path.parent.iterdir()} <= {".h5", ".txt", ".inputs"}
