"""Exports are read back by other programs, or by what their formats say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import trimesh

from disk_hloc import export
from disk_hloc.choices import EXPORT_TARGETS
from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import GEOREFERENCE, cam_from_world, poses_of, read_model, write_model
from disk_hloc.io.gps import enu_from_wgs84

NAMES = ("a/0001.jpg", "a/0002.jpg", "b3.jpg")
SIZE = (96, 64)
ORIGIN = {"latitude": 47.0, "longitude": 8.0, "altitude": 400.0}
PARAMS = {
    "SIMPLE_PINHOLE": [80, 48.5, 31.0],
    "SIMPLE_RADIAL": [80, 48.5, 31.0, -0.05],
    "RADIAL": [80, 48.5, 31.0, -0.05, 0.01],
    "OPENCV": [80, 81, 48.5, 31.0, -0.05, 0.01, 0.001, -0.002],
    "FULL_OPENCV": [80, 81, 48.5, 31.0, *[0.0] * 8],
}


def make_model(
    folder: Path, camera_model: str = "SIMPLE_RADIAL", names: Sequence[str] = NAMES
) -> pycolmap.Reconstruction:
    """Write a model of three photos that see the same points, and the photos."""
    random = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model=camera_model, width=SIZE[0], height=SIZE[1], params=PARAMS[camera_model], camera_id=4
    )
    model.add_camera_with_trivial_rig(camera)
    xyz = random.uniform([-1, -0.6, 3], [1, 0.6, 5], (40, 3))
    for number, name in enumerate(names):
        turn = pycolmap.Rotation3d(np.array([0.02 * number, -0.1 * number, 0.05]))
        pose = pycolmap.Rigid3d(turn, np.array([0.3 * number, 0.01, 0.02 * number]))
        image = pycolmap.Image(name=name, camera_id=4, image_id=number + 7)
        seen = camera.img_from_cam(pose * xyz)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in seen])
        model.add_image_with_trivial_frame(image, pose)
        photo = random.integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.GaussianBlur(photo, (0, 0), 3))
    for row, point in enumerate(xyz):
        elements = [pycolmap.TrackElement(number + 7, row) for number in range(len(NAMES))]
        color = random.integers(0, 256, 3).astype(np.uint8)
        model.add_point3D(point, pycolmap.Track(elements), color)
    (folder / "out" / "sfm").mkdir(parents=True)
    write_model(model, folder / "out" / "sfm")
    return read_model(folder / "out" / "sfm")


def exported(folder: Path, target: str, **options: object) -> Path:
    images = folder / "photos"
    return export.main(folder / "out", target, folder / "export", images=images, **options)


def same_poses(found: dict[str, Pose], model: pycolmap.Reconstruction) -> None:
    expected = poses_of(model)
    assert set(found) == set(expected)
    for name, pose in found.items():
        assert np.abs(pose.rotation - expected[name].rotation).max() < 1e-6
        assert np.abs(pose.center - expected[name].center).max() < 1e-6


def reprojection_error(model: pycolmap.Reconstruction) -> float:
    model.update_point_3d_errors()
    return float(model.compute_mean_reprojection_error())


def test_colmap_text(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    again = read_model(exported(tmp_path, "colmap-text"))
    same_poses(poses_of(again), model)
    assert again.num_points3D() == model.num_points3D()
    assert reprojection_error(again) < 1e-6


def test_ply(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    cloud = trimesh.load(exported(tmp_path, "ply") / "points.ply")
    points = [point for _, point in sorted(model.points3D.items())]
    order = np.lexsort(np.asarray(cloud.vertices).T)
    mine = np.array([point.xyz for point in points])
    assert np.allclose(cloud.vertices[order], mine[np.lexsort(mine.T)], atol=1e-6)
    colors = np.array([point.color for point in points])
    assert np.array_equal(np.asarray(cloud.colors)[order, :3], colors[np.lexsort(mine.T)])


@pytest.mark.parametrize("target", ["undistorted", "gaussian-splatting"])
def test_photos_without_distortion(target: str, tmp_path: Path) -> None:
    model = make_model(tmp_path)
    masks = tmp_path / "masks" / "a"
    masks.mkdir(parents=True)
    mask = np.full(SIZE[::-1], 255, np.uint8)
    mask[:, :30] = 0
    cv2.imwrite(str(masks / "0001.jpg.png"), mask)
    folder = exported(tmp_path, target, masks={"folder": tmp_path / "masks"})
    again = read_model(folder / ("sparse" if target == "undistorted" else "sparse/0"))
    same_poses(poses_of(again), model)
    assert reprojection_error(again) < 1e-6
    for image in again.images.values():
        camera = again.cameras[image.camera_id]
        assert camera.model.name == "PINHOLE"
        photo = cv2.imread(str(folder / "images" / image.name))
        assert photo.shape[:2] == (camera.height, camera.width)
    assert (folder / "stereo/patch-match.cfg").exists() == (target == "undistorted")
    written = [path.relative_to(folder / "masks").as_posix() for path in folder.rglob("*.png")]
    assert written == ["a/0001.jpg.png"]
    # What the mask hides of the photo is what it hides of the photo without distortion.
    seen = cv2.imread(str(folder / "masks" / written[0]), cv2.IMREAD_GRAYSCALE)
    image = next(one for one in again.images.values() if one.name == "a/0001.jpg")
    original = next(one for one in model.images.values() if one.name == "a/0001.jpg")
    for here, there in zip(image.points2D, original.points2D, strict=True):
        x, y = np.floor(here.xy).astype(int)
        inside = 0 <= x < seen.shape[1] and 0 <= y < seen.shape[0]
        if inside and abs(there.xy[0] - 30) > 2:
            assert (seen[y, x] > 0) == (there.xy[0] > 30)


@pytest.mark.parametrize("camera_model", ["SIMPLE_PINHOLE", "RADIAL", "OPENCV"])
def test_nerfstudio(camera_model: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, camera_model)
    folder = exported(tmp_path, "nerfstudio")
    content = json.loads((folder / "transforms.json").read_text())
    found = {}
    for frame in content["frames"]:
        assert (folder / frame["file_path"]).read_bytes() == (
            tmp_path / "photos" / frame["file_path"].removeprefix("images/")
        ).read_bytes()
        # As nerfstudio's dataparser and colmap_to_json read and write it.
        world_from_cam = np.array(frame["transform_matrix"])
        world_from_cam[:3, 1:3] *= -1
        cam_from_world_ = np.linalg.inv(world_from_cam)
        rotation = pycolmap.Rotation3d(cam_from_world_[:3, :3])
        x, y, z, w = rotation.quat
        name = frame["file_path"].removeprefix("images/")
        found[name] = Pose(np.array([w, x, y, z]), cam_from_world_[:3, 3])
        # Points are projected by OpenCV to where COLMAP saw them.
        image = model.images[frame["colmap_im_id"]]
        matrix = np.array(
            [[frame["fl_x"], 0, frame["cx"]], [0, frame["fl_y"], frame["cy"]], [0, 0, 1]]
        )
        distortion = np.array([frame.get(key, 0.0) for key in ("k1", "k2", "p1", "p2")])
        points = [model.points3D[p.point3D_id].xyz for p in image.points2D]
        turn = cv2.Rodrigues(cam_from_world_[:3, :3])[0]
        projected, _ = cv2.projectPoints(
            np.array(points), turn, cam_from_world_[:3, 3], matrix, distortion
        )
        seen = np.array([point.xy for point in image.points2D])
        assert np.abs(projected[:, 0] - seen).max() < 1e-4
    same_poses(found, model)
    assert len(trimesh.load(folder / content["ply_file_path"]).vertices) == 40


def test_bundler(tmp_path: Path) -> None:
    model = make_model(tmp_path, "RADIAL")
    folder = exported(tmp_path, "bundler")
    names = (folder / "list.txt").read_text().splitlines()
    assert names == sorted(NAMES)
    lines = (folder / "bundle.out").read_text().splitlines()
    assert lines[:2] == ["# Bundle file v0.3", "3 40"]
    values = [list(map(float, line.split())) for line in lines[2:]]
    cameras = [values[5 * i : 5 * i + 5] for i in range(3)]
    points = values[15:]
    for i in range(40):
        xyz, color, view = points[3 * i : 3 * i + 3]
        assert color == [int(value) for value in color]
        assert view[0] == 3
        for camera, _, x, y in np.reshape(view[1:], (3, 4)):
            (f, k1, k2), *rotation, translation = cameras[int(camera)]
            seen = np.array(rotation) @ xyz + translation
            # The manual: P = R * X + t, p = -P / P.z, p' = f * r(p) * p.
            plane = -seen[:2] / seen[2]
            square = plane @ plane
            assert np.allclose(f * (1 + k1 * square + k2 * square**2) * plane, [x, y], atol=1e-6)
    assert model.num_images() == 3


def test_openmvg(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    content = json.loads((exported(tmp_path, "openmvg") / "sfm_data.json").read_text())
    views = {view["key"]: view["value"]["ptr_wrapper"]["data"] for view in content["views"]}
    poses = {one["key"]: one["value"] for one in content["extrinsics"]}
    cameras = {one["key"]: one["value"]["ptr_wrapper"]["data"] for one in content["intrinsics"]}
    names = {
        key: f"{view['local_path']}/{view['filename']}".strip("/") for key, view in views.items()
    }
    assert sorted(names.values()) == sorted(NAMES)
    for view in views.values():
        name = names[view["id_view"]]
        image = next(one for one in model.images.values() if one.name == name)
        pose = poses[view["id_pose"]]
        expected = cam_from_world(image)
        assert np.allclose(pose["rotation"], expected.rotation.matrix(), atol=1e-6)
        assert np.allclose(pose["center"], expected.inverse().translation, atol=1e-6)
    for landmark in content["structure"]:
        for observation in landmark["value"]["observations"]:
            view = views[observation["key"]]
            camera, pose = cameras[view["id_intrinsic"]], poses[view["id_pose"]]
            seen = np.array(pose["rotation"]) @ (np.array(landmark["value"]["X"]) - pose["center"])
            plane = seen[:2] / seen[2]
            plane *= 1 + camera["disto_k1"][0] * (plane @ plane)
            pixel = camera["focal_length"] * plane + camera["principal_point"]
            assert np.allclose(pixel, observation["value"]["x"], atol=1e-6)


def test_geojson(tmp_path: Path) -> None:
    model = make_model(tmp_path)
    with pytest.raises(DiskHlocError, match="no place on the earth"):
        exported(tmp_path, "geojson")
    (tmp_path / "out/sfm" / GEOREFERENCE).write_text(json.dumps({"origin": ORIGIN}))
    content = json.loads((exported(tmp_path, "geojson") / "photos.geojson").read_text())
    centers = {name: pose.center for name, pose in poses_of(model).items()}
    for feature in content["features"]:
        longitude, latitude, altitude = feature["geometry"]["coordinates"]
        position = np.array([[latitude, longitude, altitude]])
        enu = enu_from_wgs84(position, np.array(list(ORIGIN.values())))[0]
        assert np.allclose(enu, centers[feature["properties"]["name"]], atol=1e-5)


@pytest.mark.parametrize("target", ["bundler", "openmvg", "nerfstudio"])
def test_a_camera_that_a_format_does_not_know(target: str, tmp_path: Path) -> None:
    make_model(tmp_path, "FULL_OPENCV")
    with pytest.raises(DiskHlocError, match=r"FULL_OPENCV.*export undistorted first"):
        exported(tmp_path, target)
    assert not list(tmp_path.glob("*export*"))


@pytest.mark.parametrize("target", ["colmap-text", "bundler"])
def test_names_that_a_format_cannot_hold(target: str, tmp_path: Path) -> None:
    make_model(tmp_path, names=("a.jpg", "b 1.jpg", "b 2.jpg"))
    with pytest.raises(DiskHlocError, match=r"white space.*b 1.jpg, b 2.jpg"):
        exported(tmp_path, target)


def test_what_a_folder_must_have(tmp_path: Path) -> None:
    make_model(tmp_path)
    out, target = tmp_path / "out", tmp_path / "export"
    with pytest.raises(DiskHlocError, match="has no model"):
        export.main(tmp_path / "photos", "ply", target)
    with pytest.raises(DiskHlocError, match="give the folder of the photos"):
        export.main(out, "undistorted", target)
    with pytest.raises(DiskHlocError, match=r"missing from .*: a/0001.jpg"):
        export.main(out, "undistorted", target, images=tmp_path / "photos/a")
    with pytest.raises(DiskHlocError, match="replace its own input"):
        export.main(out, "ply", out)
    with pytest.raises(DiskHlocError, match="known: colmap-text"):
        export.main(out, "pdf", target)
    cv2.imwrite(str(tmp_path / "photos/b3.jpg"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DiskHlocError, match="8 x 8"):
        export.main(out, "undistorted", target, images=tmp_path / "photos")
    assert not list(tmp_path.glob("*export*"))


def test_only_a_former_export_is_replaced(tmp_path: Path) -> None:
    make_model(tmp_path)
    first = exported(tmp_path, "nerfstudio")
    assert exported(tmp_path, "ply") == first
    assert not (first / "transforms.json").exists()
    (first / "mine.txt").write_text("kept")
    with pytest.raises(DiskHlocError, match="was not written here"):
        exported(tmp_path, "colmap-text")
    assert (first / "points.ply").exists()
    assert (first / "mine.txt").read_text() == "kept"


def test_all_targets_are_there() -> None:
    folder = Path(export.__file__).parent
    modules = {path.stem.replace("_", "-") for path in folder.glob("*.py")}
    assert modules - {"--init--", "source"} == set(EXPORT_TARGETS)
