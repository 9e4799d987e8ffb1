"""release detect: DISK's exact results, its options, resuming."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from disk_hloc.errors import DiskHlocError, UnreadableImages
from disk_hloc.io import release
from disk_hloc.io.images import read_image
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.release import detect, match
from support.errors import one_line_error
from support.release_files import write_photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """a.png, b.png, c.png of 96 x 64 px."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        write_photo(folder / f"{name}.png", (96, 64), seed)
    return folder


@pytest.fixture(scope="module")
def model() -> DISK:
    return DISK({"precision": "float32"})


def read(folder: Path, kind: str) -> dict[str, np.ndarray]:
    with h5py.File(folder / f"{kind}.h5") as file:
        return {name: dataset[()] for name, dataset in file.items()}


def test_official_features_are_reproduced(official: Path, sacre_coeur: Path, tmp_path) -> None:
    """Compare with detect.py --height 768 --width 1024 --n 2048 --detection-scores."""
    detect.main(tmp_path, sacre_coeur, height=768, width=1024, n=2048, detection_scores=True)
    kinds = ("keypoints", "descriptors", "scores")
    ours = {kind: read(tmp_path, kind) for kind in kinds}
    theirs = {kind: read(official, kind) for kind in kinds}
    identical = total = 0
    for name, released in theirs["keypoints"].items():
        rows = {tuple(xy): row for row, xy in enumerate(ours["keypoints"][name])}
        same = np.array([(row, rows[xy]) for row, xy in enumerate(map(tuple, released))
                         if xy in rows]).T  # fmt: skip
        identical, total = identical + same.shape[1], total + len(released)
        assert len(ours["keypoints"][name]) == len(released)
        for kind in kinds:
            assert ours[kind][name].dtype == theirs[kind][name].dtype
        # Scores reach 211, and a sum of 500 float32 values has six digits.
        np.testing.assert_allclose(
            ours["scores"][name][same[1]], theirs["scores"][name][same[0]], rtol=1e-5, atol=1e-4
        )
        np.testing.assert_allclose(
            ours["descriptors"][name][same[1]],
            theirs["descriptors"][name][same[0]],
            rtol=0,
            atol=1e-4,
        )
        assert (np.diff(ours["scores"][name]) <= 0).all()
    assert total == 20480
    assert identical >= 0.999 * total


@pytest.mark.parametrize(
    ("photo", "size", "fitted", "scale"),
    [
        ((100, 200), (96, 160), (80, 160), 0.8),
        ((200, 100), (96, 160), (96, 48), 0.48),
        ((30, 50), (64, 96), (57, 96), 1.92),
        ((70, 70), (64, 64), (64, 64), 64 / 70),
    ],
)
def test_photos_are_fitted_and_padded(photo, size, fitted, scale) -> None:
    image = torch.ones(3, *photo)
    resized, actual = detect.resize_and_pad(image, size)
    assert actual == pytest.approx(scale, rel=1e-12)
    assert resized.shape == (3, *size)
    expected = torch.zeros(3, *size)
    expected[:, : fitted[0], : fitted[1]] = 1
    torch.testing.assert_close(resized, expected)


def test_keypoints_in_the_padding_count_and_are_dropped(model: DISK, monkeypatch) -> None:
    photo = np.zeros((32, 64, 3), dtype=np.uint8)
    heatmap = torch.zeros(1, 64, 64)
    # The photo covers the upper 32 of 64 rows.
    heatmap[0, 10, 10], heatmap[0, 20, 60], heatmap[0, 50, 30], heatmap[0, 31, 0] = 4, 2, 9, 3
    monkeypatch.setattr(model.unet, "heatmap", lambda gated: heatmap)
    arrays, scale = detect.detect_photo(model, photo, (64, 64), n=3)
    assert scale == 1
    assert arrays["keypoints"].tolist() == [[10, 10], [0, 31]]
    assert arrays["scores"].tolist() == [4, 3]
    arrays, _ = detect.detect_photo(model, photo[:, :32], (64, 64))
    # At twice the size, released coordinates are those of a pixel, divided by two.
    assert arrays["keypoints"].tolist() == [[15, 25], [5, 5], [0, 15.5], [30, 10]]


def test_a_keypoint_has_the_descriptor_of_the_network(model: DISK, photos: Path) -> None:
    photo = read_image(photos / "a.png")
    arrays, _ = detect.detect_photo(model, photo, n=20)
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    plain = DISK({"precision": "float32", "subpixel": False})({"image": image})
    ours = {tuple(xy): i for i, xy in enumerate(arrays["keypoints"].tolist())}
    both = 0
    for xy, descriptor in zip(plain["keypoints"][0], plain["descriptors"][0].T, strict=True):
        if tuple(xy.tolist()) in ours:
            both += 1
            found = arrays["descriptors"][ours[tuple(xy.tolist())]]
            np.testing.assert_allclose(found, descriptor, atol=1e-6)
    assert both > 10


def test_options_shape_the_files(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    detect.main(out, photos, image_extension=".png", n=10, f16=True, window=3)
    assert not (out / "scores.h5").exists()
    keypoints, descriptors = read(out, "keypoints"), read(out, "descriptors")
    assert set(keypoints) == {"a", "b", "c"}
    for name in keypoints:
        assert keypoints[name].dtype == np.float32
        assert descriptors[name].dtype == np.float16
        assert descriptors[name].shape == (len(keypoints[name]), 128)
        assert len(keypoints[name]) == 10


def test_the_size_of_a_resized_pixel_is_stored(photos: Path, tmp_path: Path) -> None:
    detect.main(tmp_path, photos, image_extension="png", height=128, width=256)
    with h5py.File(tmp_path / "keypoints.h5") as file:
        for name, keypoints in file.items():
            assert release.pixel_size(file, name) == 0.5
            assert (keypoints[()] % 0.5 == 0).all()
            assert (keypoints[()] % 1 != 0).any()


def test_the_files_have_hdf5s_earliest_format(photos: Path, tmp_path: Path) -> None:
    detect.main(tmp_path, photos, image_extension="png")
    # Byte 8 is the version of the superblock; old libraries only know 0.
    assert (tmp_path / "keypoints.h5").read_bytes()[8] == 0


def test_random_keypoints_are_one_per_cell(photos: Path, tmp_path: Path) -> None:
    found = []
    for run in range(2):
        torch.manual_seed(0)
        out = tmp_path / str(run)
        detect.main(out, photos, image_extension="png", mode="rng", detection_scores=True)
        found.append(read(out, "keypoints"))
        assert all((scores < 0).all() for scores in read(out, "scores").values())
    for name, xy in found[0].items():
        np.testing.assert_array_equal(xy, found[1][name])
        cells = np.floor(xy / 8)
        assert len(np.unique(cells, axis=0)) == len(xy) > 0


def test_a_second_run_resumes_and_other_options_are_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    detect.main(out, photos, image_extension="png", n=20)
    before = read(out, "keypoints")
    with h5py.File(out / "keypoints.h5", "a") as file:
        del file["b"]
        file["a"][...] = -1  # not computed again
    detect.main(out, photos, image_extension="png", n=20)
    after = read(out, "keypoints")
    np.testing.assert_array_equal(after["b"], before["b"])
    assert (after["a"] == -1).all()
    with pytest.raises(DiskHlocError) as error:
        detect.main(out, photos, image_extension="png", n=10)
    one_line_error(error, "another conf", "--overwrite")
    detect.main(out, photos, image_extension="png", n=10, overwrite=True)
    assert len(read(out, "keypoints")["a"]) == 10
    # The first run did not write scores.
    detect.main(out, photos, image_extension="png", n=10, detection_scores=True)
    assert set(read(out, "scores")) == {"a", "b", "c"}


def test_files_of_another_program_are_not_changed(photos: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "keypoints.h5", "w") as file:
        file["a"] = np.zeros((3, 2), np.float32)
    with pytest.raises(DiskHlocError) as error:
        detect.main(tmp_path, photos, image_extension="png")
    one_line_error(error, tmp_path / "keypoints.h5", "another program", "--overwrite")


def test_gray_and_unreadable_photos(photos: Path, tmp_path: Path) -> None:
    gray = Image.open(photos / "a.png").convert("L")
    gray.save(photos / "gray.png")
    (photos / "broken.png").write_text("no image")
    with pytest.raises(UnreadableImages) as error:
        detect.main(tmp_path / "out", photos, image_extension="png", n=5)
    one_line_error(error, "broken.png")
    assert set(read(tmp_path / "out", "keypoints")) == {"a", "b", "c", "gray"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 64}, "both --height and --width"),
        ({"height": 60, "width": 96}, "--height must be a multiple of 16, found 60"),
        ({"height": 64, "width": 0}, "--width must be a multiple of 16, found 0"),
        ({"window": 4}, "--window must be odd and positive, found 4"),
        ({"n": -1}, "--n must not be negative, found -1"),
        ({"desc_dim": 64}, "--desc-dim must be 128 as in the network, found 64"),
        ({"mode": "all"}, "must be one of nms, rng"),
        ({"image_extension": "JPG"}, "--image-extension"),
        ({"model_path": "absent.pth"}, "absent.pth"),
    ],
)
def test_invalid_options(photos: Path, tmp_path: Path, options, message) -> None:
    with pytest.raises(DiskHlocError) as error:
        detect.main(tmp_path / "out", photos, **{"image_extension": "png", **options})
    one_line_error(error, message)
    assert not (tmp_path / "out").exists()


def test_a_side_that_the_network_cannot_halve(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 64)).save(photos / "odd.png")
    with pytest.raises(DiskHlocError) as error:
        detect.main(tmp_path / "out", photos, image_extension="png")
    one_line_error(error, "odd.png is 50x64 px", "--height and --width")


def test_a_photo_that_has_changed_is_detected_again(photos: Path, tmp_path: Path) -> None:
    """The matches of it, too; a photo that is gone leaves both files."""
    names = sorted(path.name for path in photos.iterdir())
    out, fresh = tmp_path / "out", tmp_path / "fresh"

    def run(folder: Path) -> None:
        detect.main(folder, photos, image_extension="png", n=40)
        match.main(folder, save_threshold=0)

    run(out)
    write_photo(photos / names[0], (96, 64), 99)
    (photos / names[-1]).unlink()
    for folder in (out, fresh):
        run(folder)
    for kind in ("keypoints", "descriptors"):
        assert (out / f"{kind}.h5").read_bytes() == (fresh / f"{kind}.h5").read_bytes()
    with h5py.File(out / "matches.h5") as found, h5py.File(fresh / "matches.h5") as expected:
        assert list(found) == list(expected) == [Path(name).stem for name in names[:-1]]
        for name, group in expected.items():
            assert list(found[name]) == list(group)
            for other, matches in group.items():
                assert np.array_equal(found[name][other][()], matches[()])
