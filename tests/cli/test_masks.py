"""The mask options and `disk-hloc mask` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from disk_hloc.io.masks import keep_keypoints
from disk_hloc.io.output_folder import MARK
from disk_hloc.stages import extract
from support.small_confs import write_sift

COMMAND = [sys.executable, "-m", "disk_hloc"]
HALF = np.tile(np.arange(96) >= 48, (64, 1))  # the right half is kept


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two small photos, their masks, features f.h5 and matches m.h5."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a.png", "sub/b.png")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 256, (11, 16, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((6, 6, 1), np.uint8))[:64, :96]).save(path)
        mask = tmp_path / "masks" / f"{name}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((HALF if number == 0 else ~HALF).astype(np.uint8) * 255).save(mask)
    conf = {"output": "x", "model": {"name": "disk"}, "preprocessing": {}}
    extract.main(conf, tmp_path / "images", tmp_path / "f.h5", device="cpu")
    with h5py.File(tmp_path / "f.h5") as features, h5py.File(tmp_path / "m.h5", "w") as matches:
        counts = [len(features[f"{name}/keypoints"]) for name in ("a.png", "sub/b.png")]
        matches["a.png/sub-b.png/matches0"] = rng.integers(-1, counts[1], counts[0])
        matches["a.png/sub-b.png/matching_scores0"] = np.ones(counts[0], dtype=np.float16)
    (tmp_path / "c.json").write_text(json.dumps([]))
    return tmp_path


def keypoints(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file[f"{name}/keypoints"][()]


def test_masking_features_and_extracting_with_masks(work: Path) -> None:
    done = call(work, "mask", "f.h5", "after.h5", "--masks", "masks")
    assert done.returncode == 0, done.stderr
    done = call(work, "extract", "images", "during.h5", "--masks", "masks", "--preview", "view")
    assert done.returncode == 0, done.stderr
    for name, mask in (("a.png", HALF), ("sub/b.png", ~HALF)):
        everything, after = keypoints(work / "f.h5", name), keypoints(work / "after.h5", name)
        assert 0 < len(after) < len(everything)
        assert np.array_equal(after, everything[keep_keypoints(mask, everything)])
        assert np.array_equal(after, keypoints(work / "during.h5", name))
        with Image.open(work / "view" / f"{name}.png") as picture:
            assert picture.size == (96, 64)
    again = call(work, "mask", "f.h5", "after.h5", "--masks", "masks")
    assert again.returncode == 1
    assert again.stderr.strip().count("\n") == 0
    assert "--overwrite" in again.stderr
    again = call(
        work, "mask", "f.h5", "after.h5", "--masks", "masks", "--invert", "--overwrite",
        "--images", "images", "--preview", "view2",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    everything = keypoints(work / "f.h5", "a.png")
    assert np.array_equal(
        keypoints(work / "after.h5", "a.png"), everything[keep_keypoints(~HALF, everything)]
    )
    assert (work / "view2" / "sub" / "b.png.png").is_file()


def test_masking_matches(work: Path) -> None:
    done = call(
        work, "mask", "--matches", "m.h5", "--features", "f.h5", "out.h5", "--masks", "masks"
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(work / "m.h5") as before, h5py.File(work / "out.h5") as after:
        old, new = (file["a.png/sub-b.png/matches0"][()] for file in (before, after))
    first = keep_keypoints(HALF, keypoints(work / "f.h5", "a.png"))
    second = keep_keypoints(~HALF, keypoints(work / "f.h5", "sub/b.png"))
    assert np.array_equal(new, np.where((old >= 0) & first & second[old], old, -1))
    assert 0 < (new >= 0).sum() < (old >= 0).sum()


def test_reconstruct_with_masks_and_previews(scene: Path, tmp_path: Path) -> None:
    mask = np.full((384, 512), 255, dtype=np.uint8)
    mask[300:] = 0
    Image.fromarray(mask).save(tmp_path / "hood.png")
    done = call(
        tmp_path, "reconstruct", str(scene / "images"), "out",
        "--extractor", write_sift(tmp_path), "--mask-file", "hood.png", "--dilate", "3",
        "--preview", "view",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (scene / "images").iterdir())
    assert sorted(path.name for path in (tmp_path / "view").iterdir()) == [
        MARK,
        *(f"{name}.png" for name in names),
    ]
    for name in names:
        found = keypoints(tmp_path / "out" / "features.h5", name)
        assert len(found) > 100
        assert found[:, 1].max() < 296.5
    assert (tmp_path / "out" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("extract", "images", "x.h5", "--dilate", "3"), "--masks"),
        (("mask", "f.h5", "x.h5"), "--masks"),
        (("mask", "f.h5", "x.h5", "--coco", "c.json", "--ignore-classes", "tree"), "person"),
        (("mask", "f.h5", "x.h5", "--masks", "masks", "--ignore-labels", "a,b"), "a,b"),
        (("mask", "f.h5", "--masks", "masks"), "OUT"),
        (("mask", "f.h5", "x.h5", "--matches", "m.h5", "--masks", "masks"), "--features"),
        (("mask", "f.h5", "x.h5", "--masks", "masks", "--preview", "v"), "--images"),
        (("mask", "f.h5", "x.h5", "--masks", "absent"), "absent"),
    ],
)
def test_bad_input_is_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], part: str,
) -> None:  # fmt: skip
    import disk_hloc.cli as cli

    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "argv", ["disk-hloc", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Error: ")
    assert shown.count("\n") == 1
    assert part in shown
    assert not (work / "x.h5").exists()


def test_an_unknown_class_on_the_command_line(work: Path) -> None:
    done = call(work, "mask", "f.h5", "x.h5", "--coco", "c.json", "--ignore-classes", "tree")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().count("\n") == 0
    assert done.stderr.startswith("Error: ")
    assert "tree" in done.stderr
