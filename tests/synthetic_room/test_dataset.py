"""The files of write_scene, read without disk_hloc's readers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.outputs import MANIFEST
from disk_hloc.synthetic_room import Camera, Scene, box, look_at, object_mask, render, write_scene

SIZE = (160, 120)


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    faces = ("south", "east", "north", "west", "top")

    def texture():
        noise = rng.uniform(0, 255, (3, 3, 3)).astype(np.uint8)
        return cv2.resize(noise, (96, 96), interpolation=cv2.INTER_LINEAR)

    return Scene(
        (
            *box("ball", (0, 0, 0.2), (0.4, 0.4, 0.4), {f: texture() for f in faces}),
            *box("block", (0.5, 0.3, 0.3), (0.3, 0.5, 0.6), {f: texture() for f in faces}),
        )
    )


@pytest.fixture
def poses():
    return np.stack([look_at((x, -2, 1.0), (0.2, 0, 0.3)) for x in (-0.6, 0.0, 0.6)])


def read_poses(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "# name qw qx qy qz tx ty tz (cam_from_world, metres)"
    poses = {}
    for line in lines[1:]:
        name, *numbers = line.split()
        w, x, y, z, *t = map(float, numbers)
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        poses[name] = np.column_stack([rotation, t])
    return poses


def files(folder):
    return sorted(str(p.relative_to(folder)).replace("\\", "/") for p in folder.rglob("*.*"))


def test_files_match_what_was_rendered(tmp_path, scene, poses):
    folder = write_scene(
        tmp_path / "new" / "scene",
        scene=scene,
        size=SIZE,
        cam_from_world=poses,
        depth=True,
        masks_of=["ball"],
        noise=0,
    )
    assert folder == tmp_path / "new" / "scene"
    names = ["0000", "0001", "0002"]
    assert files(folder) == sorted(
        [
            MANIFEST,
            "camera.txt",
            "mesh.ply",
            "poses.txt",
            *(f"images/{n}.jpg" for n in names),
            *(f"depth/{n}.npy" for n in names),
            *(f"masks/{n}.jpg.png" for n in names),
        ]
    )
    model, *numbers = (folder / "camera.txt").read_text().split()
    assert model == "PINHOLE"
    camera = Camera(int(numbers[0]), int(numbers[1]), *map(float, numbers[2:]))
    assert (camera.width, camera.height) == SIZE
    assert (camera.cx, camera.cy) == (80, 60)
    written = read_poses(folder / "poses.txt")
    assert list(written) == [f"{n}.jpg" for n in names]
    for n, pose in zip(names, poses, strict=True):
        np.testing.assert_allclose(written[f"{n}.jpg"], pose, atol=1e-10)
        seen = render(scene, camera, pose)
        image = cv2.imread(str(folder / "images" / f"{n}.jpg"))[:, :, ::-1]
        assert image.shape == (120, 160, 3)
        difference = np.abs(image.astype(float) - seen.image)
        assert difference[seen.labels >= 0].mean() < 12
        assert difference[seen.labels < 0].mean() < 2
        depth = np.load(folder / "depth" / f"{n}.npy")
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, seen.depth)
        mask = cv2.imread(str(folder / "masks" / f"{n}.jpg.png"), cv2.IMREAD_UNCHANGED)
        ball = seen.labels == scene.object_names.index("ball")
        assert ball.any()
        np.testing.assert_array_equal(mask, np.where(ball, 0, 255))


def test_object_mask_is_where_the_labels_are(scene, poses):
    seen = render(scene, Camera.from_size(*SIZE), poses[0])
    ball, block = (object_mask(seen, scene, [name]) for name in ("ball", "block"))
    assert ball.dtype == bool
    np.testing.assert_array_equal(ball, seen.labels == 0)
    np.testing.assert_array_equal(object_mask(seen, scene, ["ball", "block"]), ball | block)
    np.testing.assert_array_equal(ball | block, seen.depth > 0)
    assert not (ball & block).any()
    assert not object_mask(seen, scene, []).any()
    with pytest.raises(ValueError, match="sofa"):
        object_mask(seen, scene, ["sofa"])


def test_writing_again_leaves_nothing_stale(tmp_path, scene, poses):
    options = {"scene": scene, "size": SIZE}
    write_scene(tmp_path, cam_from_world=poses, depth=True, masks_of=["ball"], **options)
    (tmp_path / "images" / "holiday.jpg").write_bytes(b"mine")
    write_scene(tmp_path, cam_from_world=poses[:1], **options)
    assert files(tmp_path) == [
        MANIFEST,
        "camera.txt",
        "images/0000.jpg",
        "images/holiday.jpg",
        "mesh.ply",
        "poses.txt",
    ]
    assert (tmp_path / "images" / "holiday.jpg").read_bytes() == b"mine"


def test_a_photo_of_the_user_is_not_replaced(tmp_path, scene, poses):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0000.jpg").write_bytes(b"mine")
    (tmp_path / "poses.txt").write_text("mine")
    with pytest.raises(DiskHlocError, match="was not written here"):
        write_scene(tmp_path, scene=scene, size=SIZE, cam_from_world=poses[:1])
    assert (tmp_path / "images" / "0000.jpg").read_bytes() == b"mine"
    assert (tmp_path / "poses.txt").read_text() == "mine"


def test_the_same_seed_gives_the_same_bytes(tmp_path, scene, poses):
    options = {"scene": scene, "size": SIZE, "cam_from_world": poses[[0, 0]], "noise": 3}
    folders = [
        write_scene(tmp_path / name, seed=seed, **options)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    one, same, other = ((f / "images" / "0000.jpg").read_bytes() for f in folders)
    assert one == same
    assert one != other
    # Two photos from the same position only differ in their noise.
    assert one != (folders[0] / "images" / "0001.jpg").read_bytes()


def test_errors_are_raised_before_files_are_removed(tmp_path, scene, poses):
    options = {"scene": scene, "size": SIZE, "cam_from_world": poses[:1]}
    write_scene(tmp_path, **options)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="no such object: sofa"):
        write_scene(tmp_path, masks_of=["sofa"], **options)
    with pytest.raises(ValueError, match="invalid image size"):
        write_scene(tmp_path, **{**options, "size": (0, 10)})
    with pytest.raises(ValueError, match="cam_from_world"):
        write_scene(tmp_path, **{**options, "cam_from_world": np.eye(3)})
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path, scene, poses):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(DiskHlocError, match="taken"):
        write_scene(tmp_path / "taken", scene=scene, size=SIZE, cam_from_world=poses[:1])
