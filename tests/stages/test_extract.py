"""Extraction: hloc's file, resumed runs, images that cannot be read."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from disk_hloc import confs, models
from disk_hloc.errors import DiskHlocError, UnreadableImages
from disk_hloc.io import loader
from disk_hloc.io.hloc.features import list_features
from disk_hloc.io.loader import Photo, load_photo
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.stages import extract
from support.hloc_files import unfinished

# At half the size of the drawn photos, for speed.
CONF = {
    **confs.extractors()["disk"],
    "model": {"name": "disk", "max_keypoints": 200},
    "preprocessing": {"resize_max": 256},
}


@pytest.fixture
def photos(scene: Path, tmp_path: Path) -> Path:
    """Two photos, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(scene / "images" / "0000.jpg", folder / "a.jpg")
    shutil.copy(scene / "images" / "0001.jpg", folder / "sub" / "b.jpg")
    return folder


def content(path: Path) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.setdefault(name.rpartition("/")[0], {}).update(
                    {name.rpartition("/")[2]: item[()]}
                )
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_the_file_is_hlocs(photos: Path, tmp_path: Path) -> None:
    path = extract.main(CONF, photos, tmp_path / "new" / "features.h5")
    found = content(path)
    assert set(found) == {"a.jpg", "sub/b.jpg"}
    features = found["a.jpg"]
    assert features["keypoints"].shape == (200, 2)
    assert features["keypoints"].dtype == np.float32
    assert features["descriptors"].shape == (128, 200)
    assert features["descriptors"].dtype == np.float16
    np.testing.assert_allclose(
        np.linalg.norm(features["descriptors"].astype(np.float32), axis=0), 1, atol=2e-3
    )
    np.testing.assert_array_equal(features["scores"], features["keypoint_scores"])
    np.testing.assert_array_equal(features["image_size"], [512, 384])
    with h5py.File(path) as file:
        assert file["a.jpg"]["keypoints"].attrs["uncertainty"] == pytest.approx(2)


def test_keypoints_are_in_pixels_of_the_original(photos: Path, tmp_path: Path) -> None:
    """(0, 0) is the centre of the top-left pixel in both sizes, so 0 goes to 0.5 at half size."""
    path = extract.main(CONF, photos, tmp_path / "features.h5")
    photo = load_photo(photos, "a.jpg", CONF["preprocessing"])
    with torch.inference_mode():
        model = DISK(CONF["model"])
        small = model({"image": torch.from_numpy(photo.image)[None]})["keypoints"][0].numpy()
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["a.jpg"]["keypoints"][()], 2 * small + 0.5, atol=1e-4)


def test_a_stopped_run_resumes(photos: Path, tmp_path: Path) -> None:
    whole = content(extract.main(CONF, photos, tmp_path / "whole.h5"))
    listed = tmp_path / "list.txt"
    listed.write_text("# first\na.jpg PINHOLE 512 384 1 1 1 1\n")
    path = extract.main(CONF, photos, tmp_path / "parts.h5", image_list=listed)
    assert set(content(path)) == {"a.jpg"}
    with h5py.File(path, "a") as file:
        # As a kill in the middle of the second image leaves it.
        file.create_group("sub/b.jpg").create_dataset("keypoints", data=np.zeros((3, 2)))
        file["a.jpg"].attrs["kept"] = True
    extract.main(CONF, photos, path)
    resumed = content(path)
    for name, features in whole.items():
        for key, array in features.items():
            np.testing.assert_array_equal(resumed[name][key], array)
    with h5py.File(path) as file:
        assert file["a.jpg"].attrs["kept"]


def test_overwrite_starts_over_and_another_conf_is_refused(photos: Path, tmp_path: Path) -> None:
    path = extract.main(CONF, photos, tmp_path / "features.h5")
    other = {**CONF, "model": {"name": "disk", "max_keypoints": 50}}
    with pytest.raises(DiskHlocError, match=r"made with another conf.*--overwrite"):
        extract.main(other, photos, path)
    assert content(path)["a.jpg"]["keypoints"].shape == (200, 2)
    extract.main(other, photos, path, overwrite=True)
    assert content(path)["a.jpg"]["keypoints"].shape == (50, 2)


def test_unreadable_images_are_named_and_the_others_kept(photos: Path, tmp_path: Path) -> None:
    whole = (photos / "a.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "zero.png").write_bytes(b"")
    path = tmp_path / "features.h5"
    with pytest.raises(UnreadableImages) as caught:
        extract.main(CONF, photos, path)
    assert set(caught.value.reasons) == {"cut.jpg", "zero.png"}
    assert "cut.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(content(path)) == {"a.jpg", "sub/b.jpg"}


def test_pictures_that_are_hardly_photos_are_said_and_used(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Image.open(photos / "a.jpg") as image:
        image.resize((64, 48)).save(photos / "icon.png")
    mask = np.zeros((96, 256), np.uint8)
    mask[:, 100:] = 255
    Image.fromarray(mask).save(photos / "z.png")
    path = extract.main(CONF, photos, tmp_path / "features.h5")
    assert set(list_features(path)) == {"a.jpg", "icon.png", "sub/b.jpg", "z.png"}
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "icon.png (64x48 px, far smaller than the others)" in said
    assert "z.png (black and white, as masks are)" in said
    assert "a.jpg" not in said


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("no image")
    with pytest.raises(DiskHlocError, match="no image of"):
        extract.main(CONF, tmp_path / "photos", tmp_path / "features.h5")


def test_an_image_of_one_colour_is_in_the_file_without_keypoints(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / "photos" / "flat.png")
    conf = {**CONF, "model": {**CONF["model"], "detection_threshold": 100.0}}
    path = extract.main(conf, tmp_path / "photos", tmp_path / "features.h5")
    assert content(path)["flat.png"]["keypoints"].shape == (0, 2)


def test_an_unknown_model_needs_hloc(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("disk_hloc.plugin.provider.PROVIDERS", ())
    monkeypatch.delenv("DISK_HLOC_PROVIDER", raising=False)
    conf = {**CONF, "model": {"name": "superpoint"}}
    with pytest.raises(DiskHlocError, match="superpoint needs hloc"):
        extract.main(conf, photos, tmp_path / "features.h5")


def test_photos_of_one_size_may_go_together(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: batches of equal sizes, an unreadable photo in between, one with a mask."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for i, path in enumerate(sorted((scene / "images").iterdir())):
        picture = cv2.imread(str(path))
        cv2.imwrite(str(images / f"{i}.png"), picture[:300] if i == 3 else picture)
    (images / "1b.png").write_text("no image")
    mask = np.full(picture.shape[:2], 255, np.uint8)
    mask[:, :250] = 0
    cv2.imwrite(str(masks / "1.png.png"), mask)
    conf = confs.extractors()["disk-2k"]
    for at_once, name in ((1, "one.h5"), (3, "three.h5")):
        monkeypatch.setitem(DISK.images_at_once, "cpu", at_once)
        with pytest.raises(UnreadableImages, match=r"1b\.png"):
            extract.main(conf, images, tmp_path / name, masks={"folder": masks})
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "three.h5") as three:
        assert sorted(one) == sorted(three) == [f"{i}.png" for i in range(5)]
        for name in one:
            for key in one[name]:
                np.testing.assert_array_equal(one[name][key][()], three[name][key][()])
        assert one["1.png"]["keypoints"][:, 0].min() > 249
        assert one["2.png"]["keypoints"][:, 0].min() < 100


class SmallDevice(DISK):
    """Runs out of memory with three photos or with large ones, with the errors of torch."""

    most, largest = 2, 10**9

    def forward(self, data):
        count, _, height, width = data["image"].shape
        if count > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if height * width > self.largest:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return super().forward(data)


def test_when_memory_runs_out_fewer_photos_go_together(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(9):
        shutil.copy(next(photos.glob("*.jpg")), images / f"{i}.jpg")
    extract.main(CONF, images, tmp_path / "one.h5")
    monkeypatch.setitem(DISK.images_at_once, "cpu", 8)
    monkeypatch.setattr(models, "load", lambda kind, name: SmallDevice)
    with caplog.at_level(logging.WARNING):
        extract.main(CONF, images, tmp_path / "several.h5")
    # 8, 4, and 2 from then on.
    assert [record.args[1:] for record in caplog.records] == [(8, 4), (4, 2)]
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "several.h5").read_bytes()


def test_a_photo_too_large_for_the_memory_is_left_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    cv2.imwrite(str(images / "large.png"), np.zeros((600, 800, 3), np.uint8))
    monkeypatch.setattr(models, "load", lambda kind, name: SmallDevice)
    monkeypatch.setattr(SmallDevice, "largest", 500 * 700)
    conf = {**CONF, "preprocessing": {"resize_max": 800}}
    with pytest.raises(UnreadableImages) as error:
        extract.main(conf, images, tmp_path / "features.h5")
    assert list(error.value.reasons) == ["large.png"]
    assert "800x600 px need more memory than cpu has" in str(error.value)
    assert list_features(tmp_path / "features.h5") == ["a.jpg", "sub/b.jpg"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "Input/output error")])
def test_a_reader_that_dies_ends_the_run_and_loses_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(5):
        shutil.copy(photos / "a.jpg", images / f"{i}.jpg")
    extract.main(CONF, images, tmp_path / "whole.h5")

    def dying(folder: Path, name: str, *rest: object) -> Photo:
        if name == "3.jpg":
            raise error
        return load_photo(folder, name, *rest)

    with monkeypatch.context() as patch, pytest.raises(type(error)):  # noqa: PT012
        patch.setattr(loader, "load_photo", dying)
        extract.main(CONF, images, tmp_path / "features.h5")
    assert {"0.jpg", "1.jpg"} <= unfinished(tmp_path / "features.h5")
    extract.main(CONF, images, tmp_path / "features.h5")
    assert (tmp_path / "features.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def turned_folder(photos: Path, folder: Path, quarters: dict[str, int]) -> Path:
    """Write photos of 256 x 192 without loss, turned by quarters."""
    for name in ("a", "b"):
        source = photos / ("a.jpg" if name == "a" else "sub/b.jpg")
        small = cv2.resize(cv2.imread(str(source)), (256, 192), interpolation=cv2.INTER_AREA)
        image = np.rot90(small, quarters.get(f"{name}.png", 0))
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return folder


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photo_has_the_features_of_the_upright_one(
    photos: Path, tmp_path: Path, quarters: int
) -> None:
    """At the same places of what it shows, and in pixels of the photo as it is stored."""
    upright = turned_folder(photos, tmp_path / "upright", {})
    stored = turned_folder(photos, tmp_path / "stored", {"b.png": quarters})
    masks = {}
    for folder in (upright, stored):
        # The left of what b.png shows is masked.
        mask = np.full((192, 256), 255, np.uint8)
        mask[:, :100] = 0
        masks[folder] = tmp_path / f"masks of {folder.name}"
        masks[folder].mkdir()
        mask = np.rot90(mask, quarters) if folder == stored else mask
        cv2.imwrite(str(masks[folder] / "b.png.png"), mask)
    expected = content(
        extract.main(CONF, upright, tmp_path / "u.h5", masks={"folder": masks[upright]})
    )
    path = extract.main(
        CONF, stored, tmp_path / "s.h5",
        masks={"folder": masks[stored]}, turns={"b.png": -quarters % 4},
    )  # fmt: skip
    found = content(path)
    for key, values in expected["a.png"].items():
        np.testing.assert_array_equal(found["a.png"][key], values)
    one, other = expected["b.png"], found["b.png"]
    assert other["image_size"].tolist() == ([256, 192] if quarters == 2 else [192, 256])
    np.testing.assert_array_equal(other["descriptors"], one["descriptors"])
    x, y = one["keypoints"].T
    assert x.min() > 99.5  # none is exactly between two pixels
    places = ((y, 255 - x), (255 - x, 191 - y), (191 - y, x))[quarters - 1]
    np.testing.assert_allclose(other["keypoints"], np.stack(places, axis=1), atol=1e-4)
    assert (other["keypoints"] % 1 != 0).any()  # sub-pixel peaks, too
    with h5py.File(path) as file:
        assert file["b.png"]["keypoints"].attrs["uncertainty"] == 1


def test_another_turn_is_another_input(photos: Path, tmp_path: Path, caplog) -> None:
    folder = turned_folder(photos, tmp_path / "two", {})
    path = tmp_path / "features.h5"
    plain = extract.main(CONF, folder, path).read_bytes()
    caplog.set_level(logging.INFO)
    extract.main(CONF, folder, path, turns={"b.png": 1})
    assert "1 turn changed: 1 of 2 to extract" in caplog.text
    once = extract.main(CONF, folder, tmp_path / "once.h5", turns={"b.png": 1})
    assert path.read_bytes() == once.read_bytes() != plain
    caplog.clear()
    extract.main(CONF, folder, path, turns={"b.png": 1})
    assert "All 2 images are up to date" in caplog.text
    extract.main(CONF, folder, path, turns={"b.png": 2})
    assert "1 turn changed: 1 of 2 to extract" in caplog.text
    # Without turns the file is that of before.
    assert extract.main(CONF, folder, path).read_bytes() == plain


def test_workers_get_the_turns_of_their_photos_alone(photos: Path, tmp_path: Path) -> None:
    turns = {"a.jpg": 1, "sub/b.jpg": 2}
    work = extract.work(CONF, photos, tmp_path / "features.h5", turns=turns)
    assert b"a.jpg" in pickle.dumps(work.task)
    sent = pickle.dumps(work.task_of(["sub/b.jpg"]))
    assert b"sub/b.jpg" in sent
    assert b"a.jpg" not in sent


def test_hlocs_extractors_turn_nothing(photos: Path, tmp_path: Path) -> None:
    conf = {**CONF, "model": {"name": "superpoint"}}
    with pytest.raises(DiskHlocError, match="use --turn none"):
        extract.work(conf, photos, tmp_path / "features.h5", turns={"a.jpg": 1})
