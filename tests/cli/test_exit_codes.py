"""Exit codes, errors as one line without a traceback, and --on-error."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import disk_hloc.cli as cli
from disk_hloc.errors import DESCRIPTIONS, Busy, DiskHlocError, Exit
from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.release import names_of
from disk_hloc.parallel import shards
from disk_hloc.stages import extract
from support.command import Command
from support.hloc_files import unfinished
from support.small_confs import write_sift

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    return Command(capsys, monkeypatch, tmp_path)


@pytest.fixture
def photos(scene: Path, tmp_path: Path) -> Path:
    """Return a folder of two photos and, between them, a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, source in (("a.jpg", "0000.jpg"), ("c.jpg", "0001.jpg")):
        with Image.open(scene / "images" / source) as photo:
            photo.resize((256, 192)).save(folder / name)
    (folder / "b.jpg").write_text("no image")
    return folder


def test_docs_and_help_list_every_code(command: Command, capsys) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    table = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    command.monkeypatch.setattr(sys, "argv", ["disk-hloc", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    for code, words in DESCRIPTIONS.items():
        assert f"| {code.value} | {words} |" in table
        assert f"{code.value} {words}" in shown
    assert set(DESCRIPTIONS) == set(Exit)


def test_extract_skips_and_says_so(command: Command, photos: Path) -> None:
    for _ in range(2):
        code, shown = command("extract", "photos", "f.h5")
        assert code == 3
        last = shown.strip().splitlines()[-1]
        assert last.startswith("Error: 1 image could not be read and was left out of f.h5: b.jpg (")
        assert list_features(Path("f.h5")) == ["a.jpg", "c.jpg"]
    (photos / "b.jpg").unlink()
    assert command("extract", "photos", "f.h5")[0] == 0


def test_extract_stops_at_the_first(command: Command, photos: Path) -> None:
    shown = command.refused("extract", "photos", "f.h5", "--on-error", "stop")
    assert "photos/b.jpg cannot be read: " in shown
    assert unfinished(Path("f.h5")) == {"a.jpg"}


def test_release_detect_skips_or_stops(command: Command, photos: Path) -> None:
    size = ("--height", "96", "--width", "128")
    code, shown = command("release", "detect", "h5", "photos", *size)
    assert code == 3
    assert "b.jpg (" in shown
    assert names_of(Path("h5/keypoints.h5")) == ["a", "c"]
    shown = command.refused("release", "detect", "h6", "photos", *size, "--on-error", "stop")
    assert "photos/b.jpg cannot be read: " in shown
    assert unfinished(Path("h6/keypoints.h5")) == {"a"}


def test_reconstruct_skips_or_stops(command: Command, photos: Path, scene: Path) -> None:
    shown = command.refused("reconstruct", "photos", "out", "--on-error", "stop")
    assert "photos/b.jpg cannot be read: " in shown
    shutil.rmtree("out")
    shutil.copytree(scene / "images", "all")
    (Path("all") / "broken.jpg").symlink_to("nowhere.jpg")
    options = ("--extractor", write_sift(Path()), "--camera-mode", "single", "--no-robust")
    code, shown = command("reconstruct", "all", "out", *options)
    assert code == 3
    assert "broken.jpg (a broken link to nowhere.jpg)" in shown
    summary = json.loads(Path("out/summary.json").read_text())
    assert list(summary["unreadable"]) == ["broken.jpg"]


def test_describe_skips_or_stops(command: Command) -> None:
    with h5py.File("f.h5", "w") as file:
        for name in ("a.jpg", "b.jpg"):
            file[f"{name}/keypoints"] = np.zeros((70, 2))
            file[f"{name}/descriptors"] = np.random.default_rng(0).normal(size=(8, 70))
            file[f"{name}/image_size"] = np.array([9, 9])
        file["b.jpg/descriptors"][3, 3] = np.nan
    code, shown = command("describe", "f.h5", "g.h5")
    assert code == 3
    assert "b.jpg" in shown
    assert "not finite" in command.refused("describe", "f.h5", "h.h5", "--on-error", "stop")


def test_on_error_is_one_of_two(command: Command, photos: Path) -> None:
    assert command("extract", "photos", "f.h5", "--on-error", "cry")[0] == 2
    with pytest.raises(DiskHlocError, match="skip or stop"):
        extract.main({}, photos, Path("f.h5"), on_error="cry")


@pytest.mark.parametrize(
    ("raised", "code", "part"),
    [
        (Busy("f.h5 is being written by process 7"), 4, "process 7"),
        (MemoryError(), 1, "not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            1,
            "not enough memory",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk is full"),
        (sqlite3.OperationalError("database or disk is full"), 1, "the disk is full"),
        (OSError(errno.EACCES, "Permission denied", "x.h5"), 1, "x.h5"),
        (DiskHlocError("two\nlines \x1b[31m"), 1, r"two\nlines \x1b[31m"),
        (KeyboardInterrupt(), 130, "run the same command to resume"),
    ],
)
def test_what_is_raised_is_one_line(
    raised: BaseException, code: int, part: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(shards, "match", fail)
    found, shown = command("match", "f.h5", "p.txt", "m.h5")
    assert found == code
    assert part in shown
    assert "Traceback" not in shown
    assert len(shown.strip().splitlines()) == 1


def test_a_bug_is_a_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(shards, "match", fail)
    code, shown = command("match", "f.h5", "p.txt", "m.h5")
    assert code == 70
    assert "Traceback" in shown
    assert "KeyError: 'oops'" in shown
    assert shown.strip().splitlines()[-1].startswith("Error: a bug in disk_hloc ")


def test_usage_is_typers(command: Command) -> None:
    assert command("extract", "--no-such-option")[0] == 2
    assert command("no-such-command")[0] == 2


def test_files_of_another_kind_are_one_line(command: Command, photos: Path) -> None:
    Path("text.txt").write_text("some text\n")
    Path("out").mkdir()
    sqlite3.connect("other.db").executescript("CREATE TABLE x (y); INSERT INTO x VALUES (1)")
    with h5py.File("links.h5", "w") as file:
        file["a.jpg"] = h5py.ExternalLink("/etc/hostname", "/")
    Path("outside.txt").write_text("a.jpg ../b.jpg\n")
    Path("tags.yaml").write_text("!!python/object/apply:os.mkdir [ran]\n")
    os.mkfifo("pipe.jpg")
    Path("list.txt").write_text("/etc/hostname\n")
    photo = Image.fromarray(np.zeros((4, 4), np.uint8))
    photo.save("mask.png")
    for arguments, part in (
        (("extract", "photos", "text.txt"), "text.txt exists and is not an HDF5 file"),
        (("extract", "photos", "f.h5", "--image-list", "list.txt"), "list.txt, line 1"),
        (("extract", "photos", "f.h5", "--conf", "tags.yaml"), "tags.yaml"),
        (("extract", "photos", "f.h5", "--mask-file", "text.txt"), "text.txt"),
        (("extract", "photos", "f.h5", "--mask-file", "pipe.jpg"), "not a regular file"),
        (("extract", "photos", "f.h5", "--mask-file", "photos"), "a directory"),
        (("extract", "photos", "f.h5", "--coco", "text.txt"), "text.txt"),
        (("match", "links.h5", "outside.txt", "m.h5"), "outside.txt, line 1"),
        (("pairs", "exhaustive", "links.h5", "p.txt"), "a link"),
        (("pairs", "retrieval", "links.h5", "p.txt"), "a link"),
        (("pairs", "poses", "photos", "p.txt"), "no COLMAP model"),
        (("describe", "links.h5", "g.h5"), "a link"),
        (("mask", "links.h5", "x.h5", "--mask-file", "mask.png"), "a link"),
        (("convert", "hloc", "release", ".", "out", "--features", "links.h5"), "a link"),
        (("reconstruct", "photos", "o", "--from-database", "other.db"), "other.db"),
        (("reconstruct", "photos", "o", "--from-database", "text.txt"), "text.txt"),
        (("reconstruct", "photos", "o", "--pairs", "outside.txt"), "outside.txt, line 1"),
        (("eval", "hpatches", "--cache", "text.txt"), "text.txt"),
        (("eval", "model", "photos"), "no COLMAP model"),
        (("release", "match", "photos"), "descriptors.h5"),
        (("compare", "photos", "c"), "b.jpg"),
    ):
        assert part in command.refused(*arguments), arguments
    assert not Path("ran").exists()


def test_a_benchmark_is_not_done_without_a_photo(command: Command, photos: Path) -> None:
    """The exit code is that of an error, since there are no figures."""
    Path("scene").mkdir()
    photos.rename("scene/images")
    assert "b.jpg cannot be read: " in command.refused("eval", "eth", "scene")
    assert not Path("outputs/eth/results.json").exists()
