"""From photos to matches, by the recipe that other pipelines use."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest

from disk_hloc.parallel import shards
from disk_hloc.pipelines import matching


def test_workers_make_the_same_files(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    images = scene / "images"
    by_workers = []
    make = shards._make

    def note(work, *args, **options):
        by_workers.append(work.path.name)
        return make(work, *args, **options)

    monkeypatch.setattr(shards, "_make", note)
    here = matching.main(images, tmp_path / "here", extractor="disk-2k")
    assert not by_workers
    there = matching.main(images, tmp_path / "there", extractor="disk-2k", dask="local:2")
    assert by_workers == ["features.h5", "matches.h5"]
    for name in ("features", "pairs", "matches"):
        assert filecmp.cmp(getattr(here, name), getattr(there, name), shallow=False)
    assert set(here.seconds) == {"extract", "pairs", "match"}
