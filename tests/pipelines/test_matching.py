"""From photos to matches, by the recipe that other pipelines use."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.parallel import shards
from disk_hloc.pipelines import matching
from support.changing_input import draw
from support.errors import one_line_error


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
    options = {"extractor": "disk-2k", "turn": "180"}
    here = matching.main(images, tmp_path / "here", **options)
    assert not by_workers
    there = matching.main(images, tmp_path / "there", dask="local:2", **options)
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


@pytest.fixture
def photos(scene: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene / "images", tmp_path / "images"))


@pytest.fixture
def mix(tmp_path: Path) -> dict[str, Any]:
    """Small DISK and SIFT features, to mix."""
    disk, sift = tmp_path / "disk.yaml", tmp_path / "sift.yaml"
    conf = (
        "output: f\nmodel: {{name: {}, max_keypoints: {}}}\npreprocessing: {{grayscale: {}, {}}}\n"
    )
    disk.write_text(conf.format("disk", 150, "false", "resize_max: 256"))
    sift.write_text(conf.format("opencv_sift", 400, "true", "resize_max: 512"))
    return {"extractor": f"{disk}+{sift}", "device": "cpu"}


def test_several_features_follow_the_photos_as_they_are(
    photos: Path, mix: dict[str, Any], tmp_path: Path
) -> None:
    """Photos that change, come, go or cannot be read by any extractor."""
    out = tmp_path / "out"
    made = matching.main(photos, out, **mix)
    assert set(made.seconds) == {"extract", "pairs", "match", "join"}
    with h5py.File(made.features) as file, h5py.File(made.matches) as matches:
        parts = [h5py.File(out / "parts" / name / "features.h5") for name in ("disk", "sift")]
        counts = [len(part["0001.jpg"]["keypoints"]) for part in parts]
        assert counts[0] == 150
        assert len(file["0001.jpg"]["keypoints"]) == sum(counts)
        found = matches["0001.jpg"]["0002.jpg"]["matches0"][()]
        assert len(found) == sum(counts)
        # SIFT's are matched as COLMAP matches them, and never with DISK's.
        assert 20 < (found[150:] >= 0).sum() < 0.9 * counts[1]
        assert found[:150].max() < 150
        assert found[150:][found[150:] >= 0].min() >= 150
        for part in parts:
            part.close()
    shutil.copy(photos / "0000.jpg", photos / "new.jpg")
    (photos / "0004.jpg").unlink()
    with Image.open(photos / "0002.jpg") as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "0002.jpg")
    whole = (photos / "0003.jpg").read_bytes()
    (photos / "0003.jpg").write_bytes(whole[: len(whole) // 3])
    changed = matching.main(photos, out, **mix)
    assert list(changed.unreadable) == ["0003.jpg"]
    once = matching.main(photos, tmp_path / "once", **mix)
    files = ["features.h5", "pairs.txt", "matches.h5"]
    files += [
        f"parts/{name}/{kind}.h5" for name in ("disk", "sift") for kind in ("features", "matches")
    ]
    for name in files:
        assert (out / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name
    with h5py.File(once.features) as file:
        assert set(file) == {"0000.jpg", "0001.jpg", "0002.jpg", "new.jpg"}


def test_a_folder_of_one_extractor_does_not_become_that_of_several(
    photos: Path, mix: dict[str, Any], tmp_path: Path
) -> None:
    """Before anything is extracted; and one extractor does not take the folder of several."""
    alone = {**mix, "extractor": mix["extractor"].rpartition("+")[2]}
    matching.main(photos, tmp_path / "alone", **alone)
    with pytest.raises(DiskHlocError) as error:
        matching.main(photos, tmp_path / "alone", **mix)
    assert one_line_error(error, tmp_path / "alone" / "features.h5", "--overwrite")
    assert not (tmp_path / "alone" / "parts").exists()
    with pytest.raises(DiskHlocError, match="give 2, joined by commas, such as disk,sift-ratio"):
        matching.main(photos, tmp_path / "mixed", matcher="disk", **mix)
    assert not (tmp_path / "mixed").exists()
    joined = matching.main(photos, tmp_path / "alone", overwrite=True, **mix)
    with h5py.File(joined.features) as file:
        assert "descriptors" not in file["0000.jpg"]
    with pytest.raises(DiskHlocError, match=r"features\.h5 was made with another conf"):
        matching.main(photos, tmp_path / "alone", **alone)
