"""What DISK does not see is tried again with SIFT."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import yaml

from disk_hloc.errors import NoModel
from disk_hloc.eval.model import pose_errors
from disk_hloc.io.colmap import DATABASE, read_model, seeing_points
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.pipelines import sfm
from disk_hloc.stages import rescue

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


def test_photos_of_a_model_of_two_are_missing_too(photos: Path, tmp_path: Path) -> None:
    names = [f"{number:04d}.jpg" for number in PHOTOS]
    options = {"extractor": conf(tmp_path), "engine": "native", "device": "cpu", "rescue": False}
    sfm.main(photos, tmp_path / "out", **options)
    parts = [names[:2], names[2:]]
    for number, part in enumerate(parts):
        model = read_model(tmp_path / "out/sfm")
        for image in list(model.images.values()):
            if image.name not in part:
                model.deregister_frame(image.frame_id)
        folder = tmp_path / "sfm" / str(number)
        folder.mkdir(parents=True)
        for path in (folder, *([folder.parent] if number == 0 else [])):
            model.write(path)
    database = tmp_path / "out/sfm" / DATABASE
    # Nothing of one part was matched with the other.
    chosen = rescue.choose_pairs(tmp_path / "sfm", database, photos, [tuple(p) for p in parts])
    assert {(a, b) for a in parts[0] for b in parts[1]} <= set(chosen)
