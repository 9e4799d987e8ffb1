"""Maps of photos, of a reconstruction and of a COLMAP model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from packaging.version import Version
from PIL import Image

from disk_hloc.errors import Busy, DiskHlocError, SkippedImages
from disk_hloc.geometry import rotation_angle
from disk_hloc.io import colmap
from disk_hloc.io.gps import wgs84_from_enu
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.io.map_folder import SETTINGS, MapFolder, is_map, read_map
from disk_hloc.io.map_index import MapIndex, read_index
from disk_hloc.io.output_folder import claimed
from disk_hloc.localizer import Localizer
from disk_hloc.pipelines import map_build, reporting, sfm
from support.errors import one_line_error
from support.gps_photos import write_photo
from support.small_confs import write_sift

pytestmark = pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An extractor without a network, and of few keypoints."""
    return write_sift(tmp_path_factory.mktemp("conf"))


@pytest.fixture(scope="module")
def photos(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos of a room, with GPS positions to the centimetre, and a file that is no photo."""
    folder = tmp_path_factory.mktemp("photos")
    truth = read_poses(scene / "poses.txt")
    centers = np.array([truth[path.name].center for path in sorted((scene / "images").iterdir())])
    degrees = wgs84_from_enu(centers, np.array([57.7, 12.0, 30.0]))
    for path, position in zip(sorted((scene / "images").iterdir()), degrees, strict=True):
        place = folder / f"{path.stem}.png"
        write_photo(place, *position, precision=0.01, image=Image.open(path))
    (folder / "broken.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def out(photos: Path, conf: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos' reconstruction."""
    folder = tmp_path_factory.mktemp("out")
    summary = sfm.main(photos, folder, extractor=conf, camera_mode="single", engine="native")
    assert summary["registered"] == 5
    return folder


def index_of(folder: Path) -> MapIndex:
    return read_index(read_map(folder).index)


def equal(first: MapIndex, second: MapIndex) -> bool:
    pairs = ((getattr(first, name), getattr(second, name)) for name in vars(first))
    return all(
        np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other
        for one, other in pairs
    )


@pytest.fixture(scope="module")
def made(photos: Path, conf: str, out: Path, tmp_path_factory: pytest.TempPathFactory) -> MapFolder:
    """The map of this reconstruction."""
    return map_build.main(out, tmp_path_factory.mktemp("map"), images=photos, extractor=conf)


def test_of_photos_and_of_their_reconstruction_the_map_is_the_same(
    photos: Path, made: MapFolder, conf: str, tmp_path: Path
) -> None:
    with pytest.raises(SkippedImages, match=r"broken\.png"):
        map_build.main(photos, tmp_path, extractor=conf, camera_mode="single", engine="native")
    index = index_of(made.path)
    assert equal(index, index_of(tmp_path))
    assert list(index.names) == [f"{i:04d}.png" for i in range(5)]
    # What is left of the work is what docs/maps.md names.
    names = {
        "map.json", "features.h5", "pairs.txt", "matches.h5", "global.h5", "global.codebook.npz",
        "thumbnails", "model-1",
    }  # fmt: skip
    assert {path.name for path in made.path.iterdir() if not path.name.startswith(".")} == names
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        *names, "summary.json",
    }  # fmt: skip
    page = reporting.main(made.path, photos).read_text(encoding="utf-8")
    assert "0004.png" in page
    found = Localizer(made.path, device="cpu").localize(photos / "0002.png")
    assert found.pose is not None
    assert rotation_angle(found.pose.rotation @ index.pose(2).rotation.T) < 0.05


def test_a_model_of_other_features_keeps_its_poses(
    photos: Path, out: Path, conf: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a COLMAP mapper's folder, whose largest model counts, brought to metres."""
    sparse = tmp_path / "sparse"
    for number, missing in enumerate((["0000.png", "0001.png"], ["0004.png"])):
        part = colmap.read_model(out / "sfm")
        for image in colmap.registered_images(part):
            if image.name in missing:
                part.deregister_frame(image.frame_id)
        (sparse / str(number)).mkdir(parents=True)
        part.write(sparse / str(number))
    with caplog.at_level(logging.WARNING, logger="disk_hloc"):
        made = map_build.main(
            sparse, tmp_path / "map", images=photos, extractor=conf, georeference=True
        )
    assert "of 4 photos, and 1 photos of the others are left out" in caplog.text
    index = index_of(made.path)
    assert list(index.names) == [f"{i:04d}.png" for i in range(4)]
    poses = colmap.poses_of(colmap.read_model(sparse / "1"))
    # In metres, so by a similarity: rotations between photos stay.
    for i, name in enumerate(index.names):
        there = poses[name].rotation @ poses[index.names[0]].rotation.T
        here = index.pose(i).rotation @ index.pose(0).rotation.T
        assert rotation_angle(there @ here.T) < 1e-4
    found = Localizer(made.path, device="cpu").localize(photos / "0002.png")
    assert found.position is not None
    assert found.position[:2] == pytest.approx((57.7, 12.0), abs=1e-3)


def test_a_map_is_kept_until_a_new_one_can_be_built(
    photos: Path, out: Path, made: MapFolder, conf: str, tmp_path: Path
) -> None:
    settings = (made.path / SETTINGS).read_bytes()
    with pytest.raises(DiskHlocError) as error:
        map_build.main(out, made.path, images=photos, extractor=conf)
    assert one_line_error(error, made.path, "is a map already", "--overwrite")
    with pytest.raises(DiskHlocError):
        map_build.main(out, made.path, images=tmp_path / "none", extractor=conf, overwrite=True)
    with claimed(made.path), pytest.raises(Busy):
        map_build.main(out, made.path, images=photos, extractor=conf, overwrite=True)
    assert (made.path / SETTINGS).read_bytes() == settings


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"extractor": "disk+sift"}, "a map has the features of one extractor"),
        ({"extractor": "superpoint"}, "superpoint"),
        ({"extractor": "disk-2k"}, "was made with another conf"),
    ],
)
def test_features_that_cannot_answer_are_refused(
    options: dict[str, str], reason: str, photos: Path, out: Path, tmp_path: Path
) -> None:
    with pytest.raises(DiskHlocError) as error:
        map_build.main(out, tmp_path / "map", images=photos, **options)  # type: ignore[arg-type]
    assert one_line_error(error, reason)
    assert not is_map(tmp_path / "map")
