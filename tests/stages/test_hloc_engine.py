"""The hloc engine: hloc's own modules on our files, chosen and run through our stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
import pytest
from PIL import Image

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.colmap.model import cam_from_world
from disk_hloc.io.hloc.features import list_features, read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.store import reading
from disk_hloc.pipelines import matching, sfm
from disk_hloc.plugin import engine, find_conf, find_provider, hloc_module
from disk_hloc.stages import describe, extract, localize, match, pairs, retrieve, triangulate

needs_hloc = pytest.mark.skipif(
    find_provider() is None or not engine.hloc_verdict("reconstruct").works,
    reason="needs hloc, and a pycolmap that it works with",
)


@pytest.mark.skipif(find_provider() is None, reason="needs hloc")
def test_hlocs_retrieval_reads_our_descriptors_and_finds_the_same(
    scene: Path, tmp_path: Path
) -> None:
    conf = {**confs.extractors()["disk"], "model": {"name": "disk", "max_keypoints": 300}}
    features = extract.main(conf, scene / "images", tmp_path / "features.h5")
    conf = {"model": {"name": "disk_vlad", "clusters": 8}}
    path = describe.main(conf, features, tmp_path / "global.h5")
    hloc = hloc_module("pairs_from_retrieval")
    some = {"query_prefix": "0000", "db_list": ["0004.jpg", "0001.jpg", "0000.jpg"]}
    options: dict[str, Any]
    for options in ({}, some):
        hloc.main(path, tmp_path / "theirs.txt", 2, **options)
        retrieve.main(path, tmp_path / "ours.txt", 2, **options)
        # hloc's queries are in the order of a set, and the images of each in the order of scores.
        expected = (tmp_path / "theirs.txt").read_text().splitlines()
        expected.sort(key=lambda line: line.split()[0])
        assert (tmp_path / "ours.txt").read_text().splitlines() == expected
        assert len(expected) == (2 if options else 10)


@needs_hloc
def test_photos_of_a_building_become_a_model(sacre_coeur: Path, tmp_path: Path) -> None:
    summary = sfm.main(sacre_coeur, tmp_path)
    assert summary["engine"] == "hloc"
    assert summary["images"] == summary["registered"] == 10
    assert summary["points3D"] >= 4900
    assert summary["mean_reprojection_error"] <= 0.76
    assert pycolmap.Reconstruction(tmp_path / "sfm").num_points3D() == summary["points3D"]
    assert (tmp_path / "sfm" / "database.db").is_file()


@needs_hloc
def test_camera_options_reach_hloc(scene: Path, tmp_path: Path) -> None:
    model_name, _, _, parameters = read_camera(scene / "camera.txt")
    summary = sfm.main(
        scene / "images",
        tmp_path,
        extractor="disk-2k",
        engine="hloc",
        camera=f"{model_name} {','.join(map(str, parameters))}",
        fix_intrinsics=True,
    )
    assert summary["registered"] == 5
    model = pycolmap.Reconstruction(tmp_path / "sfm")
    (camera,) = model.cameras.values()
    assert list(camera.params) == pytest.approx(parameters, abs=1e-6)
    assert pose_errors(model, read_poses(scene / "poses.txt")).position.max() < 0.006


@needs_hloc
def test_models_of_hlocs_own_run_through_hloc(scene: Path, tmp_path: Path) -> None:
    """hloc's nearest neighbours on our features, which need no weights of hloc's."""
    conf = {**confs.extractors()["disk"], "model": {"name": "disk", "max_keypoints": 300}}
    features = extract.main(conf, scene / "images", tmp_path / "features.h5")
    listed = pairs.main("exhaustive", features, tmp_path / "pairs.txt")
    theirs = find_conf("matchers", "NN-mutual")
    path = match.main(theirs, listed, features, tmp_path / "matches.h5")
    ours = match.main(confs.matchers()["disk"], listed, features, tmp_path / "ours.h5")
    with h5py.File(path) as file, h5py.File(ours) as other:
        for pair in read_pairs(listed):
            found = {tuple(match) for match in read_matches(file, *pair)}
            expected = {tuple(match) for match in read_matches(other, *pair)}
            assert len(expected) > 50
            # Exact ties may be resolved differently.
            assert len(found ^ expected) <= 0.001 * len(expected)


@needs_hloc
def test_hloc_mixes_features_and_reads_them(scene: Path, tmp_path: Path) -> None:
    """An extractor of hloc's own beside DISK, for reconstruction, triangulation, localization."""
    images, out = scene / "images", tmp_path / "out"
    for name, preprocessing in (("disk", "{}"), ("dog", "{grayscale: true, resize_max: 512}")):
        (tmp_path / f"{name}.yaml").write_text(
            f"output: f\nmodel: {{name: {name}, max_keypoints: 500}}\n"
            f"preprocessing: {preprocessing}\n"
        )
    mixed = f"{tmp_path / 'disk.yaml'}+{tmp_path / 'dog.yaml'}"
    model_name, _, _, parameters = read_camera(scene / "camera.txt")
    known = f"{model_name} {','.join(map(str, parameters))}"
    summary = sfm.main(
        images, out, extractor=mixed, engine="hloc", camera=known, fix_intrinsics=True
    )
    assert summary["registered"] == 5
    files = out / "pairs.txt", out / "features.h5", out / "matches.h5"
    model = triangulate.main(tmp_path / "model", out / "sfm", images, *files, engine="hloc")
    image = {image.name: image for image in model.images.values()}["0002.jpg"]
    seen = [point.has_point3D() for point in image.points2D]
    with reading(out / "parts" / "disk" / "features.h5") as file:
        count = len(read_keypoints(file, image.name))
    assert sum(seen[:count]) > 100
    assert sum(seen[count:]) > 50
    camera = " ".join((scene / "camera.txt").read_text().split())
    (tmp_path / "queries.txt").write_text(f"0002.jpg {camera}\n")
    (tmp_path / "retrieved.txt").write_text("0002.jpg 0001.jpg\n0002.jpg 0003.jpg\n")
    found = localize.main(
        tmp_path / "model", tmp_path / "queries.txt", tmp_path / "retrieved.txt", *files[1:],
        tmp_path / "results.txt", engine="hloc",
    )  # fmt: skip
    expected = cam_from_world(image).translation
    np.testing.assert_allclose(found[image.name].translation, expected, atol=0.02)


@pytest.mark.skipif(find_provider() is None, reason="needs hloc")
def test_features_of_hlocs_own_are_masked_and_matched_again(scene: Path, tmp_path: Path) -> None:
    """Masks remove keypoints from hloc's features, so indices in older matches are wrong."""
    conf = tmp_path / "dog.yaml"
    conf.write_text(
        "output: dog\nmodel: {name: dog, max_keypoints: 500}\n"
        "preprocessing: {grayscale: true, resize_max: 512}\n"
    )
    masks = {}
    for side, columns in (("left", slice(0, 256)), ("right", slice(256, 512))):
        kept = np.zeros((384, 512), np.uint8)
        kept[:, columns] = 255
        Image.fromarray(kept).save(tmp_path / f"{side}.png")
        masks[side] = {"file": tmp_path / f"{side}.png"}
    options: dict[str, Any] = {"extractor": str(conf)}
    out = tmp_path / "out"
    matching.main(scene / "images", out, masks=masks["left"], **options)
    changed = matching.main(scene / "images", out, masks=masks["right"], **options)
    fresh = matching.main(scene / "images", tmp_path / "fresh", masks=masks["right"], **options)
    with reading(changed.features) as features, reading(changed.matches) as matches:
        for name in list_features(changed.features):
            keypoints = read_keypoints(features, name)
            assert len(keypoints) > 50
            assert keypoints[:, 0].min() > 254
        with reading(fresh.matches) as expected:
            for pair in read_pairs(changed.pairs):
                np.testing.assert_array_equal(
                    read_matches(matches, *pair), read_matches(expected, *pair)
                )
    with pytest.raises(DiskHlocError, match=r"features\.h5 was made with masks.*--overwrite"):
        matching.main(scene / "images", out, **options)
    unmasked = matching.main(scene / "images", out, overwrite=True, **options)
    with reading(unmasked.features) as features:
        assert read_keypoints(features, "0001.jpg")[:, 0].min() < 100


def test_without_hloc_the_native_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("disk_hloc.plugin.provider.PROVIDERS", ())
    monkeypatch.delenv("DISK_HLOC_PROVIDER", raising=False)
    if engine.native_verdict().works:
        assert engine.choose("auto", "reconstruct") == "native"
    with pytest.raises(DiskHlocError, match="needs hloc"):
        engine.choose("hloc", "reconstruct")


def test_an_unknown_provider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISK_HLOC_PROVIDER", "no_such_package.hloc")
    with pytest.raises(DiskHlocError, match=r"DISK_HLOC_PROVIDER is 'no_such_package\.hloc'"):
        find_provider()
