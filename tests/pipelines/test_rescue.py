"""What DISK does not see is tried again with SIFT."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import yaml

from disk_hloc.errors import NoModel
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.colmap import read_model, seeing_points
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.pipelines import sfm

PHOTOS = (3, 4, 5, 6)


@pytest.fixture(scope="module")
def photos(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos of a fountain, smaller; one of them is on its side and does not say so."""
    folder = tmp_path_factory.mktemp("rescue") / "photos"
    folder.mkdir()
    for number in PHOTOS:
        image = cv2.imread(str(data / f"fountain_p11/images/{number:04d}.jpg"))
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if number == 5:
            image = cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
        cv2.imwrite(str(folder / f"{number:04d}.jpg"), image)
    return folder


def conf(folder: Path, **model: object) -> str:
    path = folder / "disk.yaml"
    content = {"output": "disk", "model": {"name": "disk", "max_keypoints": 1024, **model}}
    path.write_text(yaml.safe_dump({**content, "preprocessing": {"resize_max": 640}}))
    return str(path)


def test_a_turned_photo_is_added_to_the_model(photos: Path, data: Path, tmp_path: Path) -> None:
    options = {"extractor": conf(tmp_path), "turn": "none", "engine": "native", "device": "cpu"}
    without = sfm.main(photos, tmp_path / "out", rescue=False, **options)
    assert without["registered"] == 3
    assert list(without["missing"]) == ["0005.jpg"]
    former = read_model(tmp_path / "out/sfm")
    summary = sfm.main(photos, tmp_path / "out", **options)
    assert summary["registered"] == 4
    assert summary["missing"] == {}
    assert json.loads((tmp_path / "out/summary.json").read_text())["registered"] == 4
    model = read_model(tmp_path / "out/sfm")
    assert len(seeing_points(model)) == 4
    assert model.num_points3D() > former.num_points3D()
    # DISK's keypoints keep their indices.
    for image in former.images.values():
        (same,) = (other for other in model.images.values() if other.name == image.name)
        points = [point.xy for point in same.points2D[: len(image.points2D)]]
        assert [tuple(xy) for xy in points] == [tuple(point.xy) for point in image.points2D]
    errors = pose_errors(model, read_poses(data / "fountain_p11/poses.txt"))
    assert errors.position.max() < 0.05  # metres; the focal length is estimated from four photos
    # Nothing changes when it is run again.
    files = {
        name: (tmp_path / "out/sfm" / name).read_bytes() for name in ("images.bin", "points3D.bin")
    }
    sfm.main(photos, tmp_path / "out", **options)
    for name, content in files.items():
        assert (tmp_path / "out/sfm" / name).read_bytes() == content


def test_photos_of_which_disk_makes_no_model(photos: Path, tmp_path: Path) -> None:
    options = {
        "extractor": conf(tmp_path, max_keypoints=8),
        "turn": "none",
        "engine": "native",
        "device": "cpu",
    }
    with pytest.raises(NoModel):
        sfm.main(photos, tmp_path / "out", rescue=False, **options)
    assert sfm.main(photos, tmp_path / "out", **options)["registered"] == 4
