"""``disk-hloc map localize``: photos in, poses out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disk_hloc.eval.localization import errors_of
from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import GEOREFERENCE
from disk_hloc.io.gps import enu_from_wgs84
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.map_folder import read_map
from support.command import Command
from support.maps import CAMERA, QUERIES

ORIGIN = {"latitude": 49.0144, "longitude": 8.4044, "altitude": 115.0}
FEW = ("--max-keypoints", "768")


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    return Command(capsys, monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def images(data: Path) -> Path:
    return data / "mini_aachen" / "images_upright"


@pytest.fixture(scope="module")
def truth(data: Path) -> dict[str, Pose]:
    return read_poses(data / "mini_aachen" / "queries" / "ground_truth.txt")


def test_a_list_of_queries(
    command: Command, fountain_map: Path, images: Path, truth: dict[str, Pose]
) -> None:
    queries = images.parent / "queries"
    known = str(queries / "ground_truth.txt")
    lists = str(queries / "*_with_intrinsics.txt")
    code, out, _ = command.run(
        "map", "localize", str(fountain_map), str(images), "--queries", lists,
        "--ground-truth", known, "--output", "new/poses.txt", "--output", "all.json",
        "--picture", "pictures",
    )  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == list(QUERIES)
    assert all("localized at" in line and "camera as given" in line for line in lines[:3])
    assert "all   3 of 3 localized: 100.0 / 100.0 / 100.0 %" in out
    poses = read_poses(Path("new/poses.txt"))
    assert not Path("new/poses.txt").read_text().startswith("#")
    content = json.loads(Path("all.json").read_text())
    assert list(content["photos"]) == list(QUERIES)
    for name, known_pose in truth.items():
        metres, degrees = errors_of(poses[name], known_pose)
        assert metres < 0.003
        assert degrees < 0.06
        answer = content["photos"][name]
        np.testing.assert_allclose(answer["center"], poses[name].center, atol=1e-9)
        assert answer["camera_from"] == "given"
        assert answer["position"] is None
        with Image.open(Path("pictures") / f"{name}.png") as picture:
            assert picture.width == 1280
            assert len(np.unique(np.asarray(picture))) > 200


def test_files_of_several_folders(command: Command, fountain_map: Path, images: Path) -> None:
    """One is localized, one shows another place, and one is no photo."""
    shutil.copytree(images / "query" / "night", "a/night")
    Path("b").mkdir()
    other = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(other).save("b/noise.png")
    Path("b/text.jpg").write_text("no photo")
    code, out, err = command.run(
        "map", "localize", str(fountain_map), "a", "b/noise.png", "b/text.jpg", "--json",
        "--output", "all.json", "--output", "poses.txt", *FEW,
    )  # fmt: skip
    assert code == 3
    assert err.strip().splitlines()[-1].startswith("Error: 1 photo was left out: b/text.jpg cannot")
    answers = {answer["name"]: answer for answer in map(json.loads, out.splitlines())}
    assert list(answers) == ["a/night/nexus5x/0008.jpg", "b/noise.png", "b/text.jpg"]
    night, noise, text = answers.values()
    assert night["localized"]
    assert night["camera_from"] == "estimated"
    assert not noise["localized"]
    assert noise["reason"]
    assert text["error"].startswith("b/text.jpg cannot be read")
    photos = json.loads(Path("all.json").read_text())["photos"]
    assert photos["b/text.jpg"] == {"error": text["error"]}
    assert list(read_poses(Path("poses.txt"))) == ["a/night/nexus5x/0008.jpg"]


def test_no_photo_is_localized(command: Command, fountain_map: Path) -> None:
    Image.new("RGB", (64, 48), (127, 127, 127)).save("gray.png")
    refused = command.refused("map", "localize", str(fountain_map), "gray.png", "--output", "a.txt")
    assert "no photo was localized" in refused
    assert Path("a.txt").read_text() == ""


def test_masks_of_a_folder(command: Command, fountain_map: Path, images: Path) -> None:
    """All is masked, so nothing is found; a mask that does not fit is an error."""
    shutil.copy(images / QUERIES[0], "a.jpg")
    Image.new("L", (1024, 683)).save("mask.png")
    localize = ("map", "localize", str(fountain_map), "a.jpg", *FEW)
    code, out, _ = command.run(*localize, "--mask-file", "mask.png")
    assert code == 1
    assert "a.jpg: not localized: it has no keypoints" in out
    Image.new("L", (683, 1024)).save("mask.png")
    assert "another aspect ratio" in command.refused(*localize, "--mask-file", "mask.png")


def test_a_rig(command: Command, fountain_map: Path, images: Path, truth: dict[str, Pose]) -> None:
    """Of the two queries by day, by their true poses: the first is the origin of the rig."""
    first = truth[QUERIES[0]]
    photos = []
    for name in QUERIES[:2]:
        rotation = truth[name].rotation @ first.rotation.T
        translation = truth[name].translation - rotation @ first.translation
        photos.append(
            {
                "image": name,
                "camera": CAMERA,
                "cam_from_rig": {
                    "quaternion": quaternion(rotation).tolist(),
                    "translation": translation.tolist(),
                },
            }
        )
    Path("rig.json").write_text(json.dumps(photos))
    code, out, _ = command.run(
        "map", "localize", str(fountain_map), str(images), "--rig", "rig.json",
        "--output", "all.json", *FEW,
    )  # fmt: skip
    assert code == 0
    assert "rig.json: localized at" in out
    content = json.loads(Path("all.json").read_text())
    found = content["rig"]["rig_from_world"]
    pose = Pose(np.array(found["quaternion"]), np.array(found["translation"]))
    metres, degrees = errors_of(pose, first)
    assert metres < 0.005
    assert degrees < 0.06
    assert list(content["photos"]) == list(QUERIES[:2])
    refused = command.refused(
        "map", "localize", str(fountain_map), str(images), "--rig", "rig.json", "--camera", CAMERA
    )
    assert "a rig has its own cameras" in refused


def quaternion(rotation: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def test_a_georeferenced_map(command: Command, fountain_map: Path, images: Path, truth) -> None:
    shutil.copytree(fountain_map, "map")
    (read_map(Path("map")).model / GEOREFERENCE).write_text(json.dumps({"origin": ORIGIN}))
    name = QUERIES[0]
    code, out, _ = command.run(
        "map", "localize", "map", str(images / name), "--camera", CAMERA,
        "--output", "a.geojson", *FEW,
    )  # fmt: skip
    assert code == 0
    assert "0002.jpg: localized at 49.014" in out
    content = json.loads(Path("a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    (feature,) = content["features"]
    assert feature["properties"]["name"] == "0002.jpg"
    longitude, latitude = feature["geometry"]["coordinates"]
    place = np.array([[latitude, longitude, feature["properties"]["altitude"]]])
    east_north_up = enu_from_wgs84(place, np.array(list(ORIGIN.values())))[0]
    np.testing.assert_allclose(east_north_up, truth[name].center, atol=0.01)
    east, north, _ = truth[name].rotation[2]
    heading = np.degrees(np.arctan2(east, north)) % 360
    assert feature["properties"]["heading"] == pytest.approx(heading, abs=0.1)
    assert 1e-4 < feature["properties"]["accuracy"] < 0.02
    assert 1e-4 < feature["properties"]["altitudeAccuracy"] < 0.02


def test_what_cannot_be_asked(command: Command, fountain_map: Path, images: Path) -> None:
    map_, photos = str(fountain_map), str(images / "query")
    localize = ("map", "localize", map_, photos)
    Path("rig.json").write_text("[]")
    Path("list.txt").write_text("missing.jpg PINHOLE 8 6 5 5 4 3\n")
    Image.new("RGB", (64, 48)).save("a.png")
    shutil.copy("a.png", "b.txt")
    for arguments, part in (
        ((*localize, "--output", "poses.csv"), "must end with .txt"),
        ((*localize, "--output", "a.geojson"), "latitudes and longitudes"),
        ((*localize, "--output", "b.txt"), "is not a text file"),
        ((*localize, "--picture", photos), "replace its own input"),
        ((*localize, "--rig", "rig.json"), "has no photos"),
        ((*localize, "--queries", "list.txt"), "1 photos that are not among those given: missing"),
        ((*localize, "--queries", "list.txt", "--camera", CAMERA), "leave out the camera"),
        ((*localize, "a.png", "--camera", CAMERA), "one size"),
        (
            ("map", "localize", map_, "a.png", "--camera", "PINHOLE 1,2"),
            "has the parameters fx, fy, cx, cy",
        ),
        (("map", "localize", photos, photos), "is not a map"),
        (("map", "localize", map_, "b.jpg", "--on-error", "stop"), "b.jpg cannot be read"),
    ):
        assert part in command.refused(*arguments), arguments
