"""Each parser reads any bytes, or raises a DiskHlocError with a one-line message.

Text is mutated in this process. Files that C libraries read (HDF5, SQLite, COLMAP's models,
OpenCV, torch) are mutated in another process with a time limit, since it may crash or hang.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.images import ImageReadError, image_size, read_image, read_image_list
from support.map_indices import small_index

Reader = Callable[[Path], Any]

EXAMPLES = 30
MUTATIONS = 25
# Stops a hanging parser; the mutations of a group take about ten seconds.
SECONDS = 300

CAMERA = "PINHOLE 640 480 500 500 320 240"


def _coco() -> bytes:
    images = [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}]
    polygon = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0]]
    code = {"size": [6, 8], "counts": [10, 5, 33]}
    annotations = [
        {"image_id": 1, "category_id": 1, "segmentation": polygon, "score": 0.5},
        {"image_id": 1, "category_id": 1, "segmentation": code},
    ]
    categories = [{"id": 1, "name": "person"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return json.dumps(content).encode()


def _read_coco(path: Path) -> None:
    from disk_hloc.io.coco import read_coco

    objects = read_coco(path, ["person"], 0.1)
    objects("a.jpg", (8, 6))


def _read_nvm(path: Path) -> None:
    from disk_hloc.io.benchmarks.nvm import read_nvm

    listed = path.with_name("intrinsics.txt")
    listed.write_text(f"a.jpg {CAMERA}\nb.jpg {CAMERA}\n")
    read_nvm(path, listed)


def _read_map(path: Path) -> None:
    from disk_hloc.io.map_folder import read_map

    folder = path.with_name("map")
    (folder / "model-1" / "index").mkdir(parents=True, exist_ok=True)
    (folder / "map.json").write_bytes(path.read_bytes())
    read_map(folder)


def _read_map_index(path: Path, name: str = "images.json") -> None:
    from disk_hloc.io.map_index import read_index, write_index

    folder = path.with_name("index")
    if not folder.exists():
        write_index(small_index(), folder)
    (folder / name).write_bytes(path.read_bytes())
    read_index(folder)


def _text_parsers() -> dict[str, tuple[bytes, Reader]]:
    """A valid file and its reader."""
    from disk_hloc.io.benchmarks.calibrated_pairs import read_calibrated_pairs
    from disk_hloc.io.benchmarks.hpatches import read_homography
    from disk_hloc.io.conf_files import read_conf
    from disk_hloc.io.hloc.pairs import read_pairs
    from disk_hloc.io.hloc.poses import read_camera, read_poses
    from disk_hloc.io.hloc.queries import read_queries, read_retrieval
    from disk_hloc.io.rigs import read_rig
    from disk_hloc.pipelines.aachen import read_conf as read_pipeline

    model = {"model": {"name": "disk"}, "preprocessing": {}}
    confs = dict.fromkeys(("extractor", "matcher", "retrieval"), model)
    camera = {"model": "PINHOLE", "width": 64, "height": 48, "params": [50, 50, 32, 24]}
    index = {"names": ["a.jpg", "b.jpg"], "camera_ids": [3, 3], "devices": [None, "a"]}
    pose = {"quaternion": [1, 0, 0, 0], "translation": [0, 0, 1.5]}
    rig = [{"image": "a.jpg", "camera": "PINHOLE 5,5,4,3", "cam_from_rig": pose}]
    k, t = "500 0 320 0 500 240 0 0 1", "1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1"
    nvm = (
        "NVM_V3\n\n2\na.jpg 500 1 0 0 0 1 2 3 0 0\nb.jpg 500 1 0 0 0 4 5 6 0 0\n\n"
        "2\n1 2 3 255 0 0 2 0 0 1.5 2.5 1 0 3.5 4.5\n4 5 6 0 9 0 1 1 1 7 8\n"
    )
    extractor = "output: x\nmodel:\n  name: disk\n  n: [1, 2]\npreprocessing: {resize_max: 1600}\n"
    aachen = (
        "name: a\nimages: images\nmodel: m\nqueries: q/*.txt\nextractor: disk\nmatcher: disk\n"
        "retrieval: disk-vlad\nquery_prefix: query/\n"
    )
    return {
        "pairs": (b"a.jpg b.jpg\nc/d.jpg a.jpg\n", read_pairs),
        "image list": (b"# all\na.jpg\nb/c.jpg PINHOLE 1\n", lambda path: read_image_list(path)),
        "retrieval": (b"q.jpg a.jpg\nq.jpg b.jpg\n", read_retrieval),
        "queries": (
            f"q/a.jpg {CAMERA}\nq/b.jpg SIMPLE_RADIAL 8 6 5 4 3 0\n".encode(),
            read_queries,
        ),
        "poses": (b"# name\na.jpg 1 0 0 0 0.5 2 -3\nb.jpg 0 1 0 0 1e3 2 3\n", read_poses),
        "camera": (CAMERA.encode(), read_camera),
        "calibrated pairs": (f"a.jpg b.jpg 0 0 {k} {k} {t}\n".encode(), read_calibrated_pairs),
        "homography": (b"1 0 5\n0 1 6\n0 0 1\n", read_homography),
        "nvm": (nvm.encode(), _read_nvm),
        "conf": (extractor.encode(), lambda path: read_conf("extractors", path)),
        "aachen conf": (aachen.encode(), lambda path: read_pipeline(str(path))),
        "coco": (_coco(), _read_coco),
        "map": (json.dumps({"format": 1, "model": "model-1", **confs}).encode(), _read_map),
        "map index": (json.dumps({**index, "cameras": {3: camera}}).encode(), _read_map_index),
        "rig": (json.dumps(rig).encode(), read_rig),
    }


TEXTS = _text_parsers()


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return the bytes of a file with some bytes changed, moved, repeated, removed or cut off."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 5)):
        if not changed:
            break
        start = int(random.integers(len(changed)))
        stop = min(len(changed), start + int(random.integers(1, 33)))
        match random.integers(6):
            case 0:
                changed[start] ^= 1 << int(random.integers(8))
            case 1:
                changed[start:stop] = random.bytes(stop - start)
            case 2:
                del changed[start:stop]
            case 3:
                changed[start:start] = changed[start:stop]
            case 4:
                changed[start:stop] = bytes([int(random.choice([0, 0x7F, 0x80, 0xFF]))]) * (
                    stop - start
                )
            case _:
                if random.random() < 0.3:
                    del changed[start:]
    return bytes(changed)


def check(read: Reader, path: Path) -> bool:
    """Check whether a file is read; errors other than a one-line DiskHlocError are raised."""
    try:
        read(path)
    except (DiskHlocError, ImageReadError) as error:
        reason = str(error)
    else:
        return True
    assert "\n" not in reason, reason
    return False


_words = st.one_of(
    st.sampled_from(
        ["a.jpg", "../x", "/etc/passwd", "..", ".", "nan", "inf", "-1", "1e999", "0", "9" * 400,
         "PINHOLE", "INVALID", "é", "\x00", "\x85", "#", "NVM_V3", "[", "{", "&a", "*a", "<<:", "-",
         "!!python/object/apply:os.system", ":", "1 0 0 0 0 0 0", "99999999999"]
    ),
    st.text(max_size=6),
)  # fmt: skip
_texts = st.lists(st.lists(_words, max_size=9).map(" ".join), max_size=6).map(
    lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
)


@pytest.mark.parametrize("kind", TEXTS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_text_is_parsed_or_refused(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    valid, read = TEXTS[kind]
    path = tmp_path / "file.yaml"
    path.write_bytes(valid)
    assert check(read, path)
    mutation = st.integers(0, 2**32).map(lambda seed: mutated(valid, np.random.default_rng(seed)))
    content = data.draw(st.one_of(mutation, _texts, st.binary(max_size=200)))
    path.write_bytes(content)
    check(read, path)


# Files that libraries parse.


def _features(path: Path, folder: str = "") -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w", libver="latest") as file:
        for name in ("a.jpg", f"{folder}b.jpg"):
            group = file.create_group(name)
            group["keypoints"] = rng.uniform(0, 90, (7, 2)).astype(np.float32)
            group["keypoints"].attrs["uncertainty"] = 1.5
            group["descriptors"] = rng.normal(size=(16, 7)).astype(np.float16)
            group["scores"] = rng.normal(size=7).astype(np.float32)
            group["image_size"] = np.array([100, 100])


def _matches(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("a.jpg/b.jpg")
        group["matches0"] = np.array([0, -1, 2, 3, -1, 6, 5], np.int16)
        group["matching_scores0"] = np.ones(7, np.float16)


def _global(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("a.jpg", "b/c.jpg"):
            file[f"{name}/global_descriptor"] = np.ones(8, np.float32) / np.sqrt(8)


def _release(path: Path) -> None:
    with h5py.File(path, "w", libver="earliest") as file:
        for name in "ab":
            file[name] = np.arange(80, dtype=np.float32).reshape(40, 2)


def _calibration(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["K"], file["R"] = np.diag([500.0, 500, 1]), np.eye(3)
        file["T"] = np.zeros(3)


def _database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE images (image_id INTEGER, name TEXT, camera_id INTEGER)")
        database.execute("CREATE TABLE cameras (camera_id INTEGER, model INTEGER, params BLOB)")
        database.execute("CREATE TABLE matches (pair_id INTEGER, rows INTEGER, data BLOB)")
        database.execute("INSERT INTO images VALUES (1, 'a.jpg', 1), (2, 'b.jpg', 1)")
        database.execute("INSERT INTO cameras VALUES (1, 1, ?)", (np.ones(4).tobytes(),))
        database.execute("INSERT INTO matches VALUES (?, 20, NULL)", (2**31 + 1,))
    database.close()


def _codebook(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, centres=np.ones((4, 8), np.float32))


def _weights(path: Path) -> None:
    import torch

    torch.save({"extractor": {"a": torch.ones(3)}}, path)


def _published(path: Path) -> None:
    errors = {threshold: np.float64(0.5) for threshold in range(1, 16)}
    counts = [np.array(["i", "v"]), np.array([5.0, 6]), np.array([3.0, 4])]
    np.save(path, np.array([errors, errors, counts], dtype=object), allow_pickle=True)


def _png(path: Path) -> None:
    gradient = np.arange(48 * 32, dtype=np.uint8).reshape(32, 48)
    Image.fromarray(np.dstack([gradient] * 3)).save(path, format="PNG")


def _jpeg(path: Path) -> None:
    gradient = np.arange(48 * 32, dtype=np.uint8).reshape(32, 48)
    Image.fromarray(np.dstack([gradient] * 3)).save(path, format="JPEG")


def _tiff(path: Path) -> None:
    Image.fromarray(np.arange(48 * 32, dtype=np.uint16).reshape(32, 48)).save(path, format="TIFF")


def _model(path: Path) -> None:
    """Read a model's images.txt; the other files are next to it."""
    folder = path.parent
    (folder / "cameras.txt").write_text(f"1 {CAMERA}\n")
    (folder / "points3D.txt").write_text("1 0 0 5 255 0 0 0.5 1 0 2 0\n")
    path.write_text("1 1 0 0 0 0 0 0 1 a.jpg\n320 240 1\n2 1 0 0 0 1 0 0 1 b.jpg\n320 240 1\n")


def _map_points(path: Path) -> None:
    np.save(path, small_index().xyz)


def _read_features(path: Path) -> None:
    from disk_hloc.io.hloc.features import list_features, list_keypoints, read_features
    from disk_hloc.io.store import reading

    names = list_features(path)
    list_keypoints(path)
    with reading(path) as file:
        for name in names:
            read_features(file, name)


def _read_matches(path: Path) -> None:
    from disk_hloc.io.hloc.matches import read_matches
    from disk_hloc.io.store import reading

    with reading(path) as file:
        read_matches(file, "a.jpg", "b.jpg", (7, 7))


def _read_global(path: Path) -> None:
    from disk_hloc.io.hloc.global_features import list_globals, read_globals
    from disk_hloc.io.store import reading

    names = list_globals(path)
    with reading(path) as file:
        if names:
            read_globals(file, names)


def _read_release(path: Path) -> None:
    from disk_hloc.io import release

    release.names_of(path)
    with release.reading_arrays(path) as file:
        for name in release.names_of(path):
            release.read_centered(file, name)


def _read_release_matches(path: Path) -> None:
    from disk_hloc.io import release
    from disk_hloc.io.store import reading

    with reading(path) as file:
        for pair in release.list_pairs(file):
            release.read_matches(file, *pair, 7, 7)


def _release_matches(path: Path) -> None:
    with h5py.File(path, "w", libver="earliest") as file:
        file["a/b"] = np.array([[0, 2, 3], [4, 1, 6]])


def _read_database(path: Path) -> None:
    from disk_hloc.io.colmap import read_cameras, read_images_and_pairs

    read_images_and_pairs(path)
    read_cameras(path)


def _binary_model(path: Path) -> None:
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions()
    options.num_frames_per_rig, options.num_points3D = 3, 10
    pycolmap.synthesize_dataset(options).write(path.parent)


def _whole_database(path: Path) -> None:
    import pycolmap

    options = pycolmap.SyntheticDatasetOptions()
    options.num_frames_per_rig, options.num_points3D = 3, 50
    with pycolmap.Database.open(path) as database:
        pycolmap.synthesize_dataset(options, database)


def _map_database(path: Path) -> None:
    """Verify and map, as the stage does, but in this process: a crash must not be possible."""
    import pycolmap

    from disk_hloc.io.colmap import (
        database_errors,
        log_to,
        read_images_and_pairs,
        require_sound_database,
    )
    from disk_hloc.stages import verify

    require_sound_database(path)
    _, pairs = read_images_and_pairs(path)
    with log_to(path.parent, verbose=False), database_errors(path):
        verify.main(path, pairs, best_first=False)
        pycolmap.incremental_mapping(path, path.parent, path.parent, options={"num_threads": 1})


def _read_model(path: Path) -> None:
    from disk_hloc.io.colmap import read_model

    read_model(path.parent)


def _read_image(path: Path) -> None:
    image_size(path)
    read_image(path)


def _read_mask(path: Path) -> None:
    from disk_hloc.io.masks import read_mask

    read_mask(path)
    read_mask(path, ignore_labels=[3])


def _mask_stage(path: Path) -> None:
    from disk_hloc.stages import mask

    Image.new("L", (100, 100), 255).save(path.with_name("mask.png"))
    output = path.with_name("masked.h5")
    mask.main({"file": path.with_name("mask.png")}, path, output, overwrite=True)


def _convert_stage(path: Path) -> None:
    from disk_hloc import convert

    convert.main(
        "hloc", "release", path.parent, path.with_name("converted"), features=path.name,
        matches="none.h5", overwrite=True,
    )  # fmt: skip


def _library_parsers() -> dict[str, tuple[str, Callable[[Path], None], Reader]]:
    """A file name, a function that writes a valid file, and its reader."""
    from disk_hloc.eval import published
    from disk_hloc.io.benchmarks.calibration import read_calibration
    from disk_hloc.io.hloc.global_features import read_codebook
    from disk_hloc.weights import load_disk

    return {
        "features": ("features.h5", lambda path: _features(path, "db/"), _read_features),
        "matches": ("matches.h5", _matches, _read_matches),
        "global features": ("global.h5", _global, _read_global),
        "release": ("keypoints.h5", _release, _read_release),
        "release matches": ("matches.h5", _release_matches, _read_release_matches),
        "calibration": ("calibration_a.h5", _calibration, read_calibration),
        "mask stage": ("features.h5", _features, _mask_stage),
        "convert": ("features.h5", _features, _convert_stage),
        "database": ("database.db", _database, _read_database),
        "mapped database": ("database.db", _whole_database, _map_database),
        "model": ("images.txt", _model, _read_model),
        "binary model": ("images.bin", _binary_model, _read_model),
        "codebook": ("x.codebook.npz", _codebook, read_codebook),
        "weights": ("weights.pth", _weights, load_disk),
        "published": ("cache.npy", _published, published.read),
        "png": ("a.png", _png, _read_image),
        "jpeg": ("a.jpg", _jpeg, _read_image),
        "tiff": ("a.tif", _tiff, _read_image),
        "mask": ("mask.png", _png, _read_mask),
        "map points": ("xyz.npy", _map_points, lambda path: _read_map_index(path, path.name)),
    }


LIBRARIES = _library_parsers()


GROUPS = {
    "hdf5": (
        "features", "matches", "global features", "release", "release matches", "calibration",
        "mask stage", "convert",
    ),
    "others": (
        "database", "mapped database", "model", "binary model", "codebook", "weights", "published",
        "png", "jpeg", "tiff", "mask", "map points",
    ),
}  # fmt: skip


def fuzz(kind: str, folder: Path, seed: int, count: int) -> None:
    """Mutate a file ``count`` times; after a crash, the file that was read is in the folder."""
    folder.mkdir()
    filename, write, read = LIBRARIES[kind]
    path = folder / filename
    write(path)
    valid = path.read_bytes()
    assert check(read, path)
    for i in range(seed, seed + count):
        print(f"{kind}, mutation {i}", file=sys.stderr)
        path.write_bytes(mutated(valid, np.random.default_rng([i, len(valid)])))
        check(read, path)


def test_every_library_parser_is_in_a_group() -> None:
    assert sorted(kind for kinds in GROUPS.values() for kind in kinds) == sorted(LIBRARIES)


@pytest.mark.parametrize("group", GROUPS)
def test_files_of_libraries_are_read_or_refused(group: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), "0", str(MUTATIONS), *GROUPS[group]],
        env={**os.environ, "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


if __name__ == "__main__":
    for _kind in sys.argv[4:]:
        fuzz(_kind, Path(sys.argv[1]) / _kind, int(sys.argv[2]), int(sys.argv[3]))
