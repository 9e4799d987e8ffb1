"""What workers share is built once, and never half."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.shared import build_once


def test_one_builds_while_others_wait(tmp_path_factory: pytest.TempPathFactory) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.05)
        (folder / "a.txt").write_text("whole")

    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(lambda _: build_once(tmp_path_factory, "once", build), range(4)))
    assert calls == [found[0]]
    assert len(set(found)) == 1
    assert (found[0] / "a.txt").read_text() == "whole"


def test_what_a_failed_build_leaves_is_not_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        build_once(tmp_path_factory, "failing", fail)
    folder = build_once(tmp_path_factory, "failing", lambda folder: (folder / "a").touch())
    assert [path.name for path in folder.iterdir()] == ["a"]
