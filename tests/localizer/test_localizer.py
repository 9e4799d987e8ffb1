"""Where photos were taken, asked of a map of Fountain-P11."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import ExifTags, Image
from scipy.spatial.transform import Rotation

import disk_hloc
from disk_hloc import Localizer
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.localization import errors_of
from disk_hloc.geometry import Pose, relative_pose
from disk_hloc.io.exif import device_of, read_exif
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.map_folder import read_map
from disk_hloc.localizer import Localization
from disk_hloc.stages import index_map
from support.errors import one_line_error
from support.maps import CAMERA, QUERIES, copy_map

FOCAL_LENGTH_PX = 920.0
# That of a 35 mm camera with the field of view of the queries: 920 px of a diagonal of 1231 px.
EQUIVALENT_MM = 32.34


@pytest.fixture(scope="module")
def localizer(fountain_map: Path) -> Localizer:
    return Localizer(fountain_map, device="cpu")


@pytest.fixture(scope="module")
def images(data: Path) -> Path:
    return data / "mini_aachen" / "images_upright"


@pytest.fixture(scope="module")
def truth(data: Path) -> dict[str, Pose]:
    return read_poses(data / "mini_aachen" / "queries" / "ground_truth.txt")


@pytest.fixture(scope="module")
def answers(localizer: Localizer, images: Path) -> dict[str, Localization]:
    """Of each query, with its intrinsics."""
    return {name: localizer.localize(images / name, CAMERA) for name in QUERIES}


@pytest.fixture(scope="module")
def half(images: Path) -> np.ndarray:
    """A query at half its size."""
    with Image.open(images / QUERIES[0]) as photo:
        return np.array(photo.resize((512, 342), Image.Resampling.LANCZOS))


def half_camera(turn: int = 0) -> pycolmap.Camera:
    """The camera of the half query, turned by quarters."""
    width, height = 512, 342
    fx, cx = 919.826667 * width / 1024, 507.063333 * width / 1024
    fy, cy = 921.386667 * height / 683, 335.77 * height / 683
    for _ in range(turn % 4):
        # A quarter counter-clockwise: x becomes what is left of y, y what is right of x.
        fx, fy, cx, cy, width, height = fy, fx, cy, width - cx, height, width
    params = [fx, fy, cx, cy]
    return pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params)


def encoded(pixels: np.ndarray, exif: Image.Exif | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif or Image.Exif())
    return file.getvalue()


def exif_of(
    model: str | None = None, equivalent: float | None = None, orientation: int | None = None
) -> Image.Exif:
    exif = Image.Exif()
    if model is not None:
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Maker", model
    if equivalent is not None:
        block = exif.get_ifd(ExifTags.IFD.Exif)
        block[ExifTags.Base.FocalLengthIn35mmFilm] = equivalent
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    return exif


def reprojection_errors(answer: Localization) -> np.ndarray:
    """The distances in pixels of the stored photo, of inliers."""
    found, pose, camera = answer.correspondences, answer.pose, answer.camera
    assert found is not None
    assert pose is not None
    assert camera is not None
    in_cam = found.xyz[found.inliers] @ pose.rotation.T + pose.translation
    there = np.asarray(camera.img_from_cam(in_cam)) - 0.5
    return np.linalg.norm(there - found.keypoints[found.inliers], axis=1)


def same(first: Localization, second: Localization) -> bool:
    return {**first.to_json(), "seconds": 0} == {**second.to_json(), "seconds": 0}


def test_with_intrinsics(answers: dict[str, Localization], truth: dict[str, Pose]) -> None:
    for name, answer in answers.items():
        metres, degrees = errors_of(answer.pose, truth[name])
        assert metres < 0.003
        assert degrees < 0.06
        assert answer.reason is None
        assert answer.camera_from == "given"
        assert answer.turn == 0
        assert 700 < answer.num_inliers <= answer.num_correspondences
        assert sum(one.inliers for one in answer.retrieved) == answer.num_inliers
        assert np.median(reprojection_errors(answer)) < 1
        assert {"read", "turn", "extract", "retrieve", "match", "pose"} == set(answer.seconds)
        assert str(answer).startswith("localized at ")


def test_its_covariance_is_that_of_its_errors(answers: dict[str, Localization]) -> None:
    """A few tenths of a millimetre: of errors of 2 mm, most are the map's."""
    for answer in answers.values():
        assert answer.covariance is not None
        np.testing.assert_array_equal(answer.covariance, answer.covariance.T)
        assert np.linalg.eigvalsh(answer.covariance).min() > 0
        deviations = np.sqrt(np.diag(answer.center_covariance))
        assert 1e-4 < deviations.min() < deviations.max() < 2e-3


def test_with_an_unknown_focal_length(
    localizer: Localizer, images: Path, truth: dict[str, Pose]
) -> None:
    answer = localizer.localize(images / QUERIES[0])
    assert answer.camera_from == "estimated"
    assert answer.camera is not None
    assert answer.camera.params[0] == pytest.approx(FOCAL_LENGTH_PX, rel=0.02)
    # The principal point is taken as the middle of the photo, 7 pixels away: 0.4 degrees.
    metres, degrees = errors_of(answer.pose, truth[QUERIES[0]])
    assert metres < 0.1
    assert degrees < 0.6


def test_with_a_focal_length_from_exif(
    localizer: Localizer, half: np.ndarray, truth: dict[str, Pose]
) -> None:
    answer = localizer.localize(encoded(half, exif_of("A", EQUIVALENT_MM)))
    assert answer.camera_from == "exif"
    assert answer.camera is not None
    assert answer.camera.params[0] == pytest.approx(FOCAL_LENGTH_PX / 2, rel=0.02)
    metres, degrees = errors_of(answer.pose, truth[QUERIES[0]])
    assert metres < 0.1
    assert degrees < 0.6


def test_of_a_device_that_took_photos_of_the_map(
    fountain_map: Path, images: Path, truth: dict[str, Pose], tmp_path: Path
) -> None:
    """Its camera is that of these photos, also where EXIF alone would mislead."""
    known = exif_of("Known", 60.0)
    for path in sorted((images / "db").iterdir()):
        target = tmp_path / "photos" / "db" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as photo:
            photo.save(target, exif=known, quality=95)
    made = read_map(copy_map(fountain_map, tmp_path / "map"))
    index_map.main(made, tmp_path / "photos", turns={})
    localizer = Localizer(made.path, device="cpu")
    with Image.open(images / QUERIES[0]) as photo:
        pixels = np.array(photo)
    answer = localizer.localize(encoded(pixels, known))
    assert answer.camera_from == "map"
    assert answer.camera is not None
    np.testing.assert_allclose(answer.camera.params, [919.826667, 921.386667, 507.063333, 335.77])
    metres, degrees = errors_of(answer.pose, truth[QUERIES[0]])
    assert metres < 0.003
    assert degrees < 0.06
    # Another camera, or another size of photo.
    for source in (
        encoded(pixels[:64, :64], exif_of("Other", 60.0)), encoded(pixels[:64, :64], known),
    ):  # fmt: skip
        assert localizer._intrinsics(_query(source), None).source == "exif"
    assert localizer._intrinsics(_query(encoded(pixels[:64, :64])), None).source == "estimated"


def _query(source: bytes) -> disk_hloc.localizer.query.Query:
    return disk_hloc.localizer.query.read_query(source)


@pytest.mark.parametrize(("turn", "orientation"), [(1, 6), (2, None), (3, None)])
def test_a_turned_photo_has_the_same_pose(
    turn: int, orientation: int | None, localizer: Localizer, half: np.ndarray, truth
) -> None:
    """Up to the turn about the optical axis; its keypoints are in its own pixels."""
    pixels = np.ascontiguousarray(np.rot90(half, turn))
    source = pixels if orientation is None else encoded(pixels, exif_of(orientation=orientation))
    answer = localizer.localize(source, half_camera(turn))
    assert answer.turn == 90 * (-turn % 4)
    assert answer.pose is not None
    # Turning the photo counter-clockwise turns the camera clockwise about z, which points forward.
    about_z = Rotation.from_euler("z", -90 * turn, degrees=True).as_matrix()
    known = truth[QUERIES[0]]
    expected = about_z @ known.rotation
    angle = Rotation.from_matrix(answer.pose.rotation @ expected.T).magnitude()
    assert np.degrees(angle) < 0.1
    assert np.linalg.norm(answer.pose.center - known.center) < 0.01
    assert np.median(reprojection_errors(answer)) < 1


def test_path_bytes_and_pixels_have_one_answer(
    localizer: Localizer, half: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(half))
    first = localizer.localize(str(path), half_camera())
    assert first.localized
    assert same(localizer.localize(path.read_bytes(), half_camera()), first)
    assert same(localizer.localize(half, half_camera()), first)
    assert localizer.localize(np.array(Image.fromarray(half).convert("L")), half_camera()).localized


def test_no_keypoint_is_where_the_mask_is_black(
    localizer: Localizer, half: np.ndarray, tmp_path: Path
) -> None:
    mask = np.ones(half.shape[:2], bool)
    mask[:, 256:] = False
    answer = localizer.localize(half, half_camera(), mask=mask)
    assert answer.localized
    assert answer.correspondences is not None
    x = answer.correspondences.keypoints[:, 0]
    assert 200 < x.max() < 255.5
    Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / "mask.png")
    assert same(localizer.localize(half, half_camera(), mask=tmp_path / "mask.png"), answer)
    nothing = localizer.localize(half, half_camera(), mask=np.zeros_like(mask))
    assert nothing.num_keypoints == 0
    assert nothing.reason == "it has no keypoints"
    assert nothing.to_json()["retrieved"] == []


@pytest.mark.parametrize("known", [False, True])
def test_another_scene_is_refused(known: bool, localizer: Localizer, sacre_coeur: Path) -> None:
    """This one has more inliers by chance than nine others, both ways."""
    with Image.open(sacre_coeur / "17295357_9106075285.jpg") as photo:
        photo.thumbnail((512, 512))
        pixels = np.array(photo)
    camera = f"SIMPLE_PINHOLE 614,256,{len(pixels) / 2}" if known else None
    answer = localizer.localize(pixels, camera)
    assert not answer.localized
    assert answer.pose is None
    assert answer.covariance is None
    assert answer.num_correspondences > 500
    assert answer.num_inliers > 20
    assert f"({answer.num_inliers} do)" in str(answer.reason)
    assert str(answer) == f"not localized: {answer.reason}"
    content = answer.to_json()
    assert content["cam_from_world"] is None
    assert content["center"] is None


def test_what_does_not_fit_is_an_error(
    localizer: Localizer, half: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    size = half.shape[:2]
    for source, options, parts in (
        (half, {"camera": half_camera(1)}, ("342 x 512", "512 x 342")),
        (half, {"camera": "PINHOLE 5,5"}, ("has the parameters fx, fy, cx, cy",)),
        (half, {"camera": "LENS 5,5"}, ("no camera model is called 'LENS'",)),
        (half, {"mask": np.ones(size[::-1], bool)}, ("342 x 512", "512 x 342")),
        (half, {"mask": tmp_path / "mask.png"}, ("mask.png cannot be read",)),
        (half[:, :, :2], {}, ("3 channels",)),
        (half.astype(float), {}, ("uint8", "float64")),
        (half[:0], {}, ("(0, 512, 3)",)),
        (tmp_path / "text.jpg", {}, ("text.jpg cannot be read",)),
        (tmp_path / "missing.jpg", {}, ("missing.jpg cannot be read",)),
        (b"no photo", {}, ("the photo cannot be read",)),
        (b"", {}, ("the photo cannot be read",)),
        (encoded(half)[:5000], {}, ("the photo cannot be read",)),
    ):
        with pytest.raises(DiskHlocError) as error:
            localizer.localize(source, **options)
        assert one_line_error(error, *parts)


def in_rig(truth: dict[str, Pose]) -> list[Pose]:
    """The poses of the queries in a rig whose origin is the first of them."""
    found = []
    for name in QUERIES:
        rotation, translation = relative_pose(truth[QUERIES[0]], truth[name])
        x, y, z, w = Rotation.from_matrix(rotation).as_quat()
        found.append(Pose(np.array([w, x, y, z]), translation))
    return found


def test_a_rig_localizes_photos_that_see_too_little(
    localizer: Localizer, images: Path, truth: dict[str, Pose], answers: dict[str, Localization]
) -> None:
    """The second is masked: its pose is that of the first."""
    paths = [images / name for name in QUERIES[:2]]
    masks = [None, np.zeros((683, 1024), bool)]
    rig = localizer.localize_rig(paths, in_rig(truth)[:2], [CAMERA] * 2, masks=masks)
    assert rig.localized
    assert rig.reason is None
    for name, answer in zip(QUERIES[:2], rig.images, strict=True):
        metres, degrees = errors_of(answer.pose, truth[name])
        # The relative poses are good to 2 mm, and so are those of the photos alone.
        assert metres < 0.005
        assert degrees < 0.03
        assert answer.reason is None
        assert answer.camera_from == "given"
    first, second = rig.images
    assert second.num_inliers == 0
    assert rig.num_inliers == first.num_inliers > 700
    assert np.median(reprojection_errors(first)) < 1
    alone = answers[QUERIES[0]].covariance
    assert rig.covariance is not None
    np.testing.assert_allclose(rig.covariance, alone, rtol=0.1, atol=1e-9)
    assert "matches agree" in str(rig)
    assert str(second).endswith("0 of 0 matches agree; camera as given")


def test_a_rig_that_sees_nothing(localizer: Localizer, truth: dict[str, Pose]) -> None:
    blank, black = np.full((48, 64, 3), 127, np.uint8), np.zeros((48, 64), bool)
    rig = localizer.localize_rig(
        [blank, blank], in_rig(truth)[:2], ["PINHOLE 60,60,32,24"] * 2, masks=[black, black]
    )
    assert not rig.localized
    assert rig.reason
    assert [one.reason for one in rig.images] == ["it has no keypoints"] * 2
    with pytest.raises(DiskHlocError, match="found 1 photos, 2 poses and 1 cameras"):
        localizer.localize_rig([blank], in_rig(truth)[:2], [CAMERA])
    with pytest.raises(DiskHlocError, match="found 1 masks of 2 photos"):
        localizer.localize_rig([blank] * 2, in_rig(truth)[:2], [CAMERA] * 2, masks=[None])
    with pytest.raises(DiskHlocError, match="found 0 photos"):
        localizer.localize_rig([], [], [])


def test_fewer_keypoints_and_photos(fountain_map: Path, half: np.ndarray) -> None:
    few = Localizer(fountain_map, num_retrieved=2, max_keypoints=200, device="cpu", memory_budget=0)
    answer = few.localize(half, half_camera())
    assert answer.localized
    assert answer.num_keypoints == 200
    assert len(answer.retrieved) == 2
    # Descriptors stay on the disk.
    assert isinstance(few.index.descriptors, np.memmap)


def test_a_device_is_its_size_focal_lengths_and_name(half: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(half, exif_of("A", 30.0)))
    found = read_exif(tmp_path / "a.png")
    assert found.model == "A"
    known = device_of(found, (512, 342))
    assert known == device_of(read_exif(encoded(half[:8], exif_of("A", 30.0))), (512, 342))
    assert known != device_of(found, (342, 512))
    assert known != device_of(read_exif(encoded(half, exif_of("B", 30.0))), (512, 342))
    assert known != device_of(read_exif(encoded(half, exif_of("A", 31.0))), (512, 342))
    assert device_of(read_exif(encoded(half, exif_of("A"))), (512, 342)) is None
    assert device_of(read_exif(encoded(half)), (512, 342)) is None


def test_maps_that_do_not_fit_together(fountain_map: Path, tmp_path: Path) -> None:
    settings = json.loads((fountain_map / "map.json").read_text())
    extractor, matcher = settings["extractor"], settings["matcher"]
    model = extractor["model"]
    folder = tmp_path / "map"
    folder.mkdir()
    for path in fountain_map.iterdir():
        if path.name != "map.json":
            (folder / path.name).symlink_to(path)
    for changed, part in (
        ({"extractor": {**extractor, "model": {"name": "../x"}}}, "not one of the extractors here"),
        ({"matcher": {**matcher, "model": {"name": "os"}}}, "not one of the matchers here"),
        ({"extractor": {**extractor, "model": {**model, "nms": 1}}}, "unknown key 'nms'"),
        ({"extractor": {**extractor, "model": {**model, "max_keypoints": "a"}}}, "max_keypoints"),
    ):
        (folder / "map.json").write_text(json.dumps({**settings, **changed}))
        with pytest.raises(DiskHlocError) as error:
            Localizer(folder, device="cpu")
        assert one_line_error(error, part)
    (folder / "map.json").write_text(json.dumps(settings))
    (folder / "global.codebook.npz").unlink()
    np.savez(folder / "global.codebook.npz", centres=np.ones((64, 64), np.float32))
    with pytest.raises(DiskHlocError, match="the codebook of"):
        Localizer(folder, device="cpu")
    with pytest.raises(DiskHlocError, match="at least one retrieved photo"):
        Localizer(fountain_map, num_retrieved=0)
    with pytest.raises(DiskHlocError, match="more than 0 pixels"):
        Localizer(fountain_map, max_error=0.0)


def test_the_example_of_the_documentation_runs(
    fountain_map: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "localization.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "MAP").symlink_to(fountain_map)
    (tmp_path / "photo.jpg").symlink_to(images / QUERIES[0])
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/localization.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("localized at ")
    assert "'camera_from': 'estimated'" in printed


def test_a_place_that_agrees_in_part_is_refused(data: Path, fountain_map: Path) -> None:
    night = data / "mini_aachen/images_upright" / QUERIES[2]
    localizer = Localizer(fountain_map, device="cpu", min_agreement=1)
    agreement = localizer.index.agreement
    assert agreement is not None
    assert 0.5 < agreement < 0.9
    answer = localizer.localize(night, CAMERA)
    # Fewer of its matches agree than of those of photos by day.
    assert not answer.localized
    assert answer.num_inliers / answer.num_correspondences < agreement
    assert re.search(r"only \d\d % of its .* looks like this one", answer.reason or "")
    assert Localizer(fountain_map, device="cpu").localize(night, CAMERA).localized
    with pytest.raises(DiskHlocError, match="from 0 to 1"):
        Localizer(fountain_map, min_agreement=2)
