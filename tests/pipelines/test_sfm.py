"""From real photos to models, by the native engine."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from packaging.version import Version
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.colmap import poses_of
from disk_hloc.io.gps import wgs84_from_enu
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.pipelines import sfm
from support.errors import one_line_error
from support.gps_photos import write_photo
from support.small_confs import write_sift

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)


def test_photos_of_a_building_become_a_model(sacre_coeur: Path, tmp_path: Path) -> None:
    summary = sfm.main(sacre_coeur, tmp_path, engine="native")
    assert summary["images"] == summary["registered"] == 10
    assert summary["points3D"] >= 4900
    assert summary["mean_reprojection_error"] <= 0.76
    assert summary["engine"] == "native"
    assert set(summary["seconds"]) == {"extract", "pairs", "match", "reconstruct"}
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    model = pycolmap.Reconstruction(tmp_path / "sfm")
    assert model.num_points3D() == summary["points3D"]
    assert model.compute_num_observations() == summary["observations"]


def test_a_calibrated_camera_gives_exact_poses(data: Path, tmp_path: Path) -> None:
    """Fountain-P11 with its camera fixed, compared with its surveyed poses."""
    fountain = data / "fountain_p11"
    name, _, _, parameters = read_camera(fountain / "camera.txt")
    summary = sfm.main(
        fountain / "images",
        tmp_path,
        engine="native",
        camera=f"{name} {','.join(map(str, parameters))}",
        fix_intrinsics=True,
    )
    assert summary["registered"] == 11
    model = pycolmap.Reconstruction(tmp_path / "sfm")
    errors = pose_errors(model, read_poses(fountain / "poses.txt"))
    assert errors.position.mean() <= 0.0023
    assert errors.rotation.mean() <= 0.04


def test_readable_photos_are_reconstructed_without_the_others(scene: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(scene / "images", images)
    whole = (images / "0000.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    conf = write_sift(tmp_path)
    summary = sfm.main(images, tmp_path / "out", extractor=conf, engine="native")
    assert summary["images"] == 6
    assert summary["registered"] == 5
    assert list(summary["unreadable"]) == ["cut.jpg"]


def test_a_model_in_metres_is_written_and_never_of_another_model(
    scene: Path, matched_scene: Path, tmp_path: Path
) -> None:
    images, out = scene / "images", tmp_path / "out"
    shutil.copytree(matched_scene, out)
    with pytest.raises(DiskHlocError) as error:
        sfm.main(images, out, extractor="disk-2k", engine="native", georeference=True)
    assert one_line_error(error, out / "sfm", "0 of its 5 photos", "have a GPS position")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["registered"] == 5
    assert not (out / "georeferenced").exists()
    plain = (out / "sfm" / "images.bin").read_bytes()

    # The same photos with GPS; a unit of the room is 10 m.
    photos, origin = tmp_path / "photos", np.array([55.7, 13.19, 40.0])
    truth = read_poses(scene / "poses.txt")
    enu = 10 * np.array([pose.center for pose in truth.values()])
    for name, position in zip(truth, wgs84_from_enu(enu, origin), strict=True):
        with Image.open(images / name) as image:
            write_photo(photos / name, *position, precision=0.1, image=image)
    database = out / "sfm" / "database.db"
    summary = sfm.from_database(database, photos, tmp_path / "metres", georeference=True)
    assert summary["georeference"]["positions"] == 5
    assert summary["georeference"]["median_horizontal"] < 0.3
    assert json.loads((tmp_path / "metres" / "summary.json").read_text()) == summary
    found = poses_of(pycolmap.Reconstruction(tmp_path / "metres" / "georeferenced"))
    sides = np.linalg.norm(np.diff([found[name].center for name in truth], axis=0), axis=1)
    np.testing.assert_allclose(sides, np.linalg.norm(np.diff(enu, axis=0), axis=1), rtol=0.1)
    assert (tmp_path / "metres" / "sfm" / "images.bin").read_bytes() == plain

    sfm.from_database(database, photos, tmp_path / "metres")
    assert not (tmp_path / "metres" / "georeferenced").exists()


def test_given_pairs_are_matched_and_no_others(scene: Path, tmp_path: Path) -> None:
    listed = tmp_path / "mine.txt"
    names = [f"{i:04}.jpg" for i in range(5)]
    listed.write_text("".join(f"{a} {b}\n" for a, b in pairwise(names)))
    sfm.main(
        scene / "images",
        tmp_path / "out",
        extractor=write_sift(tmp_path),
        pairs_from=str(listed),
        engine="native",
    )
    assert len((tmp_path / "out" / "pairs.txt").read_text().splitlines()) == 4


def test_photos_may_have_any_name_of_a_file(scene: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    names = ["my photo 0.jpg", "#1.jpg", "a/b.jpg", "a-b.jpg", "a/ü 漢\u3000.jpg"]
    for source, name in zip(sorted((scene / "images").iterdir()), names, strict=True):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, images / name)
    conf = write_sift(tmp_path)
    summary = sfm.main(images, tmp_path / "out", extractor=conf, engine="native")
    assert summary["registered"] == 5
    database = tmp_path / "out" / "sfm" / "database.db"
    again = sfm.from_database(database, images, tmp_path / "again")
    assert again["registered"] == 5


def test_a_bad_name_stops_before_extraction(scene: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(scene / "images", images)
    (images / "0000.jpg").rename(images / "my\tphoto.jpg")
    with pytest.raises(DiskHlocError, match=r"'my\\tphoto\.jpg' has a tab"):
        sfm.main(images, tmp_path / "out", engine="native")
    assert not (tmp_path / "out").exists()


def test_pairs_that_are_no_method_are_refused_before_extraction(
    scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(DiskHlocError) as error:
        sfm.main(scene / "images", tmp_path / "out", pairs_from="sequental")
    assert one_line_error(error, "--pairs sequental", "did you mean 'sequential'?")
    assert not (tmp_path / "out").exists()
