"""From photos to matches, by the recipe that other pipelines use."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import pytest

from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.parallel import shards
from disk_hloc.pipelines import matching
from support.changing_input import draw


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


def test_retrieved_pairs_are_those_of_one_run_whatever_was_there_before(tmp_path: Path) -> None:
    conf = tmp_path / "few.yaml"
    conf.write_text("output: x\nmodel: {name: retrieval, num_matched: 1}\n")
    images = tmp_path / "images"
    for variant in range(4):
        draw(images / f"{variant}.png", variant)

    def files(out: str, choice: str = str(conf)) -> dict[str, bytes]:
        matching.main(
            images, tmp_path / out, extractor="sift", matcher="sift-ratio", pairs_from=choice
        )
        found = sorted((tmp_path / out).glob("[!.]*"))
        return {path.name: path.read_bytes() for path in found}

    first = files("out")
    assert {"global-feats-disk-vlad.h5", "global-feats-disk-vlad.codebook.npz"} <= set(first)
    assert 2 <= len(read_pairs(tmp_path / "out" / "pairs.txt")) <= 4
    draw(images / "0.png", 5)
    draw(images / "new.png", 6)
    (images / "3.png").unlink()
    changed = files("out")
    assert changed == files("fresh")
    assert changed["global-feats-disk-vlad.h5"] != first["global-feats-disk-vlad.h5"]
    # Descriptors that no pair was chosen by do not stay behind.
    assert files("out", "exhaustive") == files("another", "exhaustive")
    shutil.rmtree(tmp_path / "another")
    assert files("another", f"exhaustive+{conf}").keys() == changed.keys()
