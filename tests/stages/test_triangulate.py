"""Triangulation of drawn points with known poses: panoramas, fisheyes, rigs, sizes, few arrays."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pycolmap
import pytest
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.stages import localize, triangulate
from support.errors import one_line_error

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap.Camera, "cam_ray_from_img"), reason="needs pycolmap 4.2's camera models"
)
NAMES = ["left/0.jpg", "right/0.jpg", "left/1.jpg", "right/1.jpg"]
CENTERS = np.array([[0, 0, 0], [0.5, 0.1, 0], [0.1, 0.4, 0.3], [0.6, 0.5, 0.3]])
PINHOLE = ("PINHOLE", 400, 300, [250, 260, 200, 150])
PANORAMA = ("EQUIRECTANGULAR", 1024, 512, [1024, 512])
# 180 degrees across.
FISHEYE = ("OPENCV_FISHEYE", 800, 800, [250, 250, 400, 400, 0, 0, 0, 0])


def drawn_images() -> list[pycolmap.Image]:
    return [
        pycolmap.Image(name, np.zeros((0, 2)), camera_id=1 + i % 2, image_id=1 + i)
        for i, name in enumerate(NAMES)
    ]


def on_their_own(
    lenses: list[pycolmap.Camera], poses: list[pycolmap.Rigid3d]
) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    for lens in lenses:
        model.add_camera_with_trivial_rig(lens)
    for image, pose in zip(drawn_images(), poses, strict=True):
        model.add_image_with_trivial_frame(image, pose)
    return model


def in_a_rig(
    lenses: list[pycolmap.Camera], poses: list[pycolmap.Rigid3d]
) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    for lens in lenses:
        model.add_camera(lens)
    sensors = [pycolmap.sensor_t(pycolmap.SensorType.CAMERA, i) for i in (1, 2)]
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(sensors[0])
    # Known to a few millimetres: an adjustment would move the camera in its rig.
    shift = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([0.004, 0, 0]))
    rig.add_sensor(sensors[1], shift * poses[1] * poses[0].inverse())
    model.add_rig(rig)
    images = drawn_images()
    for frame_id in (1, 2):
        both = images[2 * frame_id - 2 : 2 * frame_id]
        frame = pycolmap.Frame(frame_id=frame_id, rig_id=1)
        frame.rig_from_world = poses[2 * frame_id - 2]
        for image in both:
            image.frame_id = frame_id
            frame.add_data_id(image.data_id)
        model.add_frame(frame)
        for image in both:
            model.add_image(image)
        model.register_frame(frame_id)
    return model


def write_world(
    folder: Path,
    camera: tuple,
    rig: bool = False,
    arrays: bool = True,
    centers: np.ndarray = CENTERS,
) -> int:
    """Write photos, features, pairs, matches and a reference of four cameras.

    Returns:
        How many points all of them see.
    """
    model, width, height, params = camera
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(400, 3))
    if model == "PINHOLE":
        directions[:, 2] = 2 + np.abs(directions[:, 2])
    elif model == "OPENCV_FISHEYE":
        directions[:, 2] = np.abs(directions[:, 2])
    points = directions / np.linalg.norm(directions, axis=1)[:, None] * rng.uniform(3, 6, (400, 1))
    lenses = [pycolmap.Camera(camera_id=i, model=model, width=width, height=height, params=params)
              for i in (1, 2)]  # fmt: skip
    rotation = pycolmap.Rotation3d(np.array([0.02, -0.03, 0.01, 1]) / np.sqrt(1.0014))
    poses = [pycolmap.Rigid3d(rotation, rotation.matrix() @ -center) for center in centers]
    reference = (in_a_rig if rig else on_their_own)(lenses, poses)
    seen, visible = [], np.ones(len(points), bool)
    for name, pose in zip(NAMES, poses, strict=True):
        pixels = lenses[0].img_from_cam(np.array([pose * point for point in points]))
        visible &= np.isfinite(pixels).all(axis=1) & (pixels > 0).all(axis=1)
        visible &= (pixels < (width, height)).all(axis=1)
        seen.append(pixels)
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), "gray").save(path)
    (folder / "reference").mkdir()
    reference.write(folder / "reference")
    with h5py.File(folder / "features.h5", "w") as file:
        for name, pixels in zip(NAMES, seen, strict=True):
            file[f"{name}/keypoints"] = (pixels[visible] - 0.5).astype(np.float32)
            if arrays:
                file[f"{name}/image_size"] = np.array([width, height])
    pairs = list(combinations(NAMES, 2))
    write_pairs(folder / "pairs.txt", pairs)
    with h5py.File(folder / "matches.h5", "w") as file:
        for pair in pairs:
            group = "/".join(name.replace("/", "-") for name in pair)
            file[f"{group}/matches0"] = np.arange(visible.sum(), dtype=np.int16)
            file[f"{group}/matching_scores0"] = np.ones(visible.sum(), np.float16)
    return int(visible.sum())


def build(folder: Path, **options: str) -> pycolmap.Reconstruction:
    return triangulate.main(
        folder / "sfm",
        folder / "reference",
        folder / "images",
        folder / "pairs.txt",
        folder / "features.h5",
        folder / "matches.h5",
        engine="native",
        **options,
    )


@pytest.mark.parametrize("camera", [PINHOLE, PANORAMA, FISHEYE], ids=lambda camera: camera[0])
def test_all_that_cameras_see_is_triangulated(tmp_path: Path, camera: tuple) -> None:
    # Keypoints alone, as of hloc's dense matchers, are enough.
    count = write_world(tmp_path, camera, arrays=False)
    assert count > 100
    model = build(tmp_path)
    assert model.num_points3D() >= 0.97 * count
    behind = [point.xyz[2] < 0 for point in model.points3D.values()]
    assert any(behind) == (camera is PANORAMA)
    intrinsics = f"{camera[0]} {camera[1]} {camera[2]} {' '.join(map(str, camera[3]))}"
    (tmp_path / "queries.txt").write_text(f"{NAMES[0]} {intrinsics}\n")
    (tmp_path / "retrieved.txt").write_text("".join(f"{NAMES[0]} {name}\n" for name in NAMES[1:]))
    poses = localize.main(
        tmp_path / "sfm", tmp_path / "queries.txt", tmp_path / "retrieved.txt",
        tmp_path / "features.h5", tmp_path / "matches.h5", tmp_path / "out.txt", engine="native",
    )  # fmt: skip
    assert np.linalg.norm(poses[NAMES[0]].center - CENTERS[0]) < 1e-3


def test_cameras_at_one_place_make_no_point(tmp_path: Path) -> None:
    write_world(tmp_path, PINHOLE, centers=np.zeros((4, 3)))
    with pytest.raises(DiskHlocError, match=r"all cameras of .*reference are at one place"):
        build(tmp_path)


def test_cameras_of_a_rig_keep_their_poses(tmp_path: Path) -> None:
    write_world(tmp_path, PINHOLE, rig=True)
    reference = pycolmap.Reconstruction(tmp_path / "reference")
    model = build(tmp_path)
    for image in reference.images.values():
        center = model.find_image_with_name(image.name).projection_center()
        np.testing.assert_allclose(center, image.projection_center(), atol=1e-9)


def test_queries_of_another_size_and_of_one_name_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_world(tmp_path, PINHOLE)
    build(tmp_path)
    text = "PINHOLE {} {} 250 260 200 150\n"
    (tmp_path / "queries.txt").write_text(
        "".join(f"{name} {text.format(400, 300)}" for name in NAMES[:2])
        + f"{NAMES[2]} {text.format(800, 600)}"
    )
    (tmp_path / "retrieved.txt").write_text("".join(f"{name} {NAMES[3]}\n" for name in NAMES[:3]))
    files = [tmp_path / name for name in ("queries.txt", "retrieved.txt", "features.h5")]
    poses = localize.main(
        tmp_path / "sfm", *files, tmp_path / "matches.h5", tmp_path / "out.txt", engine="native"
    )
    assert list(poses) == NAMES[:2]
    assert "left/1.jpg was not localized: its camera" in caplog.text
    assert (
        f"800 x 600 pixels, but {files[2]} was extracted from an image of 400 x 300" in caplog.text
    )
    assert "2 queries have the name of another one" in caplog.text
    assert "left/0.jpg, right/0.jpg" in caplog.text


def test_cameras_of_another_size_than_the_features_are_named(tmp_path: Path) -> None:
    write_world(tmp_path, PINHOLE)
    with h5py.File(tmp_path / "features.h5", "a") as file:
        file["left/0.jpg/image_size"][:] = (800, 600)
        del file["right/1.jpg/image_size"]
    with pytest.raises(DiskHlocError) as error:
        build(tmp_path)
    reference, features = tmp_path / "reference", tmp_path / "features.h5"
    assert one_line_error(error, reference, features, "left/0.jpg (400 x 300 and 800 x 600)")
    with h5py.File(features, "a") as file:
        file["left/0.jpg/image_size"][:] = (400, 300)
    Image.new("RGB", (200, 150)).save(tmp_path / "images" / "right/1.jpg")
    with pytest.raises(DiskHlocError) as error:
        build(tmp_path)
    photos = tmp_path / "images"
    assert one_line_error(error, reference, photos, "right/1.jpg (400 x 300 and 200 x 150)")
