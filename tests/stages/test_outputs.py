"""No stage writes onto what it reads, nor onto a folder or a file of another kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError
from disk_hloc.plugin import find_conf
from disk_hloc.report.mask_pictures import mask_previews
from disk_hloc.stages import dense, describe, extract, localize, mask, match, pairs, retrieve
from support.errors import one_line_error

DISK = find_conf("extractors", "disk")
MUTUAL = find_conf("matchers", "disk")
LOFTR = confs.packaged("dense")["loftr"]
VLAD = confs.global_descriptors()["disk-vlad"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("f.h5", "m.h5", "g.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["a.jpg/keypoints"] = np.zeros((3, 2))
    for name in ("pairs.txt", "list.txt", "queries.txt"):
        (tmp_path / name).write_text("a.jpg b.jpg\n")
    (tmp_path / "photos" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 a photo, or its mask \0")
    return tmp_path


def _mask(f: Path, out: Path, **options: Any) -> Any:
    conf = {"file": f / "photos" / "a.jpg"}
    return mask.main(conf, f / "f.h5", out, overwrite=True, **options)


# A stage -> its call with an output, and the inputs that this may not be.
STAGES: dict[str, tuple[Callable[[Path, Path], Any], list[str]]] = {
    "extract": (
        lambda f, out: extract.main(
            DISK, f / "photos", out, image_list=f / "list.txt", overwrite=True
        ),
        ["list.txt"],
    ),
    "extract with masks": (
        lambda f, out: extract.main(
            DISK, f / "photos", out, masks={"file": f / "photos" / "a.jpg"}, overwrite=True
        ),
        ["photos/a.jpg"],
    ),
    "match": (
        lambda f, out: match.main(
            MUTUAL, f / "pairs.txt", f / "f.h5", out, reference_path=f / "g.h5", overwrite=True
        ),
        ["pairs.txt", "f.h5", "g.h5"],
    ),
    "dense features": (
        lambda f, out: dense.main(LOFTR, f / "pairs.txt", f, out, f / "n.h5", overwrite=True),
        ["pairs.txt"],
    ),
    "dense matches": (
        lambda f, out: dense.main(LOFTR, f / "pairs.txt", f, f / "f.h5", out, overwrite=True),
        ["pairs.txt", "f.h5"],
    ),
    "mask": (_mask, ["f.h5", "photos/a.jpg"]),
    "mask matches": (
        lambda f, out: _mask(f, out, match_path=f / "m.h5"),
        ["f.h5", "m.h5"],
    ),
    "describe": (
        lambda f, out: describe.main(VLAD, f / "f.h5", out, overwrite=True),
        ["f.h5"],
    ),
    "pairs": (lambda f, out: pairs.main("exhaustive", f / "f.h5", out), ["f.h5"]),
    "retrieve": (
        lambda f, out: retrieve.main(
            f / "g.h5", out, num_matched=1, query_list=f / "list.txt", db_descriptors=f / "f.h5"
        ),
        ["g.h5", "f.h5", "list.txt"],
    ),
    "localize": (
        lambda f, out: localize.main(
            f, f / "queries.txt", f / "pairs.txt", f / "f.h5", f / "m.h5", out
        ),
        ["queries.txt", "pairs.txt", "f.h5", "m.h5"],
    ),
}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", STAGES)
def test_an_output_that_is_an_input_is_refused(stage: str, folder: Path) -> None:
    call, inputs = STAGES[stage]
    (folder / "link").symlink_to(folder)
    for name in inputs:
        before = content(folder)
        for output in (folder / name, folder / "link" / name):
            with pytest.raises(DiskHlocError) as error:
                call(folder, output)
            assert one_line_error(error, "its own input", folder / name, "give another name")
        assert content(folder) == before


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("output", ["", "photos", "photos/a.jpg"])
def test_an_output_of_another_kind_is_refused(stage: str, output: str, folder: Path) -> None:
    call, _ = STAGES[stage]
    before = content(folder)
    with pytest.raises(DiskHlocError) as error:
        call(folder, folder / output)
    assert one_line_error(error, "output", folder / output)
    assert content(folder) == before


def test_previews_do_not_replace_photos_or_masks(folder: Path) -> None:
    shutil.copytree(folder / "photos", folder / "masks")
    for name in ("photos", "masks"):
        with pytest.raises(DiskHlocError) as error:
            mask_previews(
                folder / name, folder / "photos", folder / "f.h5", {"folder": folder / "masks"}
            )
        assert one_line_error(error, name)
