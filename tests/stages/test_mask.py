"""Masked regions have no keypoints: masked during extraction, afterwards, and in matches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pycolmap
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.matches import names_to_pair
from disk_hloc.io.store import CONF_ATTRIBUTE, fingerprints, reading
from disk_hloc.pipelines import sfm
from disk_hloc.stages import extract
from disk_hloc.stages import mask as stage
from support.errors import one_line_error
from support.small_confs import write_sift

Arrays = Mapping[str, np.ndarray]
IMAGES = {"a.jpg": (60, 40), "sub/b.png": (50, 70)}


def noise(seed: int, width: int, height: int) -> np.ndarray:
    """Return a small photo of coloured blocks, with corners at every scale."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 6), -(-width // 6), 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((6, 6, 1), dtype=np.uint8))[:height, :width]


def random_mask(seed: int, width: int, height: int, coarse: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if not coarse:
        return rng.random((height, width)) < 0.5
    cells = rng.random((-(-height // 9), -(-width // 9))) < 0.5
    return np.kron(cells, np.ones((9, 9), dtype=bool))[:height, :width]


def save_mask(path: Path, mask: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def disk(resize_max: int | None = None, resize_force: bool = False, **model: Any) -> dict[str, Any]:
    preprocessing = {"resize_max": resize_max, "resize_force": resize_force}
    return {"output": "x", "model": {"name": "disk", **model}, "preprocessing": preprocessing}


def read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Image name -> its datasets."""
    found: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            image, _, key = name.rpartition("/")
            found.setdefault(image, {})[key] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def inside(mask: np.ndarray, keypoints: np.ndarray) -> list[bool]:
    """The rule, one keypoint at a time."""
    height, width = mask.shape
    flags = []
    for x, y in keypoints.astype(float):
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        flags.append(0 <= column < width and 0 <= row < height and bool(mask[row, column]))
    return flags


def same(left: Arrays, right: Arrays) -> bool:
    return set(left) == set(right) and all(
        left[key].dtype == right[key].dtype and np.array_equal(left[key], right[key])
        for key in left
    )


@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(60, 160), st.integers(60, 160)),
    resize=st.sampled_from([(None, False), (59, False), (47, False), (83, True), (200, True)]),
    coarse=st.booleans(),
    orientation=st.integers(1, 8),
)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_a_masked_region_holds_no_keypoint(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    size: tuple[int, int],
    resize: tuple[int | None, bool],
    coarse: bool,
    orientation: int,
) -> None:
    """All three ways agree to the bit; the mask is that of the photo as stored."""
    folder = tmp_path_factory.mktemp("masked")
    mask = random_mask(seed, *size, coarse=coarse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / "images" / "sub").mkdir(parents=True)
    photo = Image.fromarray(noise(seed, *size))
    photo.save(folder / "images" / "sub" / "p.jpg", quality=95, exif=exif)
    with Image.open(folder / "images" / "sub" / "p.jpg") as stored:
        assert stored.getexif()[0x0112] == orientation
        assert stored.size == size
    save_mask(folder / "masks" / "sub" / "p.jpg.png", mask)
    conf, masks = disk(*resize), {"folder": folder / "masks"}

    plain = extract.main(conf, folder / "images", folder / "plain.h5", device="cpu")
    during = extract.main(conf, folder / "images", folder / "during.h5", masks=masks, device="cpu")
    after = stage.main(masks, plain, folder / "after.h5")

    everything = read(plain)["sub/p.jpg"]
    flags = np.array(inside(mask, everything["keypoints"]), dtype=bool)
    for path in (during, after):
        kept = read(path)["sub/p.jpg"]
        assert all(inside(mask, kept["keypoints"]))
        assert np.array_equal(kept["keypoints"], everything["keypoints"][flags])
        assert kept["image_size"].tolist() == list(size)
    one, other = read(during)["sub/p.jpg"], read(after)["sub/p.jpg"]
    # To the bit: test_masking_early_or_late_is_the_same_to_the_bit.
    np.testing.assert_array_equal(one.pop("descriptors"), other.pop("descriptors"))
    assert same(one, other)
    with h5py.File(plain) as before, h5py.File(during) as one, h5py.File(after) as other:
        uncertainty = [
            file["sub/p.jpg/keypoints"].attrs["uncertainty"] for file in (before, one, other)
        ]
        assert len(set(uncertainty)) == 1

    count = len(flags)
    rng = np.random.default_rng(seed)
    matches0 = np.where(rng.random(count) < 0.7, rng.permutation(count), -1).astype(np.int16)
    with h5py.File(folder / "m.h5", "w") as file:
        group = file.create_group("sub-p.jpg/sub-p.jpg")
        group["matches0"] = matches0
        group["matching_scores0"] = rng.random(count).astype(np.float16)
    stage.main(masks, plain, folder / "m2.h5", match_path=folder / "m.h5")
    masked = read(folder / "m2.h5")["sub-p.jpg/sub-p.jpg"]["matches0"]
    ends = np.flatnonzero(masked >= 0)
    assert all(inside(mask, everything["keypoints"][ends]))
    assert all(inside(mask, everything["keypoints"][masked[ends]]))
    both = np.array([m >= 0 and flags[i] and flags[m] for i, m in enumerate(matches0)], dtype=bool)
    assert np.array_equal(masked, np.where(both, matches0, -1))


@pytest.mark.parametrize("corner", [8, 14, 20, 26, 40, 70, 90])
def test_masking_early_or_late_is_the_same_to_the_bit(tmp_path: Path, corner: int) -> None:
    """Also if few keypoints are left, when a matrix product may sum in another order."""
    mask = np.zeros((97, 110), dtype=bool)
    mask[:corner, :corner] = True
    masks = {"file": save_mask(tmp_path / "m.png", mask)}
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.fromarray(noise(number, 110, 97)).save(tmp_path / "images" / f"{number}.png")
    arguments = {"image_dir": tmp_path / "images", "device": "cpu"}
    plain = extract.main(disk(), feature_path=tmp_path / "plain.h5", **arguments)
    during = extract.main(disk(), feature_path=tmp_path / "during.h5", masks=masks, **arguments)
    after = stage.main(masks, plain, tmp_path / "after.h5")
    for name, features in read(during).items():
        assert same(features, read(after)[name])


def test_exif_orientation_changes_nothing(tmp_path: Path) -> None:
    """The same pixels under each tag have the same keypoints, with the same mask."""
    mask = random_mask(3, 128, 80)
    for orientation in range(9):
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        path = tmp_path / "images" / f"{orientation}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise(3, 128, 80)).save(path, quality=95, exif=exif)
        save_mask(tmp_path / "masks" / f"{orientation}.png", mask)
    masks = {"folder": tmp_path / "masks", "missing": "error"}
    path = extract.main(disk(70), tmp_path / "images", tmp_path / "f.h5", masks=masks, device="cpu")
    found = read(path)
    assert len(found) == 9
    assert len(found["0.jpg"]["keypoints"]) > 3
    assert all(same(found["0.jpg"], features) for features in found.values())


def test_max_keypoints_are_found_outside_the_mask(scene: Path, tmp_path: Path) -> None:
    name = "0002.jpg"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes((scene / "images" / name).read_bytes())
    mask = np.ones((384, 512), dtype=bool)
    mask[:, :256] = False
    masks = {"file": save_mask(tmp_path / "m.png", mask)}
    conf = disk(max_keypoints=300)
    arguments = {"image_dir": tmp_path / "images", "device": "cpu"}
    plain = extract.main(conf, feature_path=tmp_path / "plain.h5", **arguments)
    during = extract.main(conf, feature_path=tmp_path / "during.h5", masks=masks, **arguments)
    after = stage.main(masks, plain, tmp_path / "after.h5")
    everything = disk()
    reference = extract.main(everything, feature_path=tmp_path / "e.h5", masks=masks, **arguments)
    kept, fewer = read(during)[name], read(after)[name]
    assert len(kept["keypoints"]) == 300
    assert 0 < len(fewer["keypoints"]) < 250
    assert (kept["keypoints"][:, 0] > 255).all()
    assert {*map(tuple, fewer["keypoints"])} < {*map(tuple, kept["keypoints"])}
    # They are the 300 strongest outside the mask.
    strongest = np.sort(read(reference)[name]["scores"])[-300:]
    assert np.array_equal(np.sort(kept["scores"]), strongest)


def test_a_file_has_the_masks_of_the_last_run(tmp_path: Path) -> None:
    """Other masks are applied; a file that was masked afterwards is not added to unmasked."""
    (tmp_path / "images").mkdir()
    Image.fromarray(noise(0, 64, 64)).save(tmp_path / "images" / "a.png")
    save_mask(tmp_path / "masks" / "a.png", random_mask(0, 64, 64))
    masks = {"folder": tmp_path / "masks"}
    arguments = {"image_dir": tmp_path / "images", "device": "cpu"}
    path = extract.main(disk(), feature_path=tmp_path / "f.h5", masks=masks, **arguments)
    extract.main(disk(), feature_path=path, masks=masks, **arguments)
    for i, others in enumerate((None, {**masks, "dilate": 2})):
        extract.main(disk(), feature_path=path, masks=others, **arguments)
        fresh = extract.main(disk(), feature_path=tmp_path / f"{i}.h5", masks=others, **arguments)
        assert path.read_bytes() == fresh.read_bytes()
    plain = extract.main(disk(), feature_path=tmp_path / "plain.h5", **arguments)
    after = stage.main(masks, plain, tmp_path / "after.h5")
    with pytest.raises(DiskHlocError, match="another conf"):
        extract.main(disk(), feature_path=after, **arguments)
    with reading(plain) as before, reading(after) as masked:
        former = fingerprints.read_of(before, "a.png")
        found = fingerprints.read_of(masked, "a.png")
        assert former is not None
        assert found is not None
        assert found.inputs == f"{former.content} masked"
        assert found.content != former.content


def sift_like(path: Path, counts: Mapping[str, int], dimension: int, sizes: bool = True) -> Path:
    """Write a features file as another extractor may write it."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.attrs["made by"] = "another tool"
        for name, count in counts.items():
            width, height = IMAGES[name]
            group = file.create_group(name)
            group.attrs["exposure"] = 0.25
            xy = rng.uniform(0, 1, (count, 2)) * (width, height) - 0.5
            group["keypoints"] = xy.astype(np.float16)
            group["keypoints"].attrs["uncertainty"] = 1.5
            group["descriptors"] = rng.normal(size=(dimension, count)).astype(np.float16)
            for key in ("scales", "oris", "scores"):
                group[key] = rng.random(count).astype(np.float32)
            group["colors"] = rng.integers(0, 256, (count, 3), dtype=np.uint8)
            group["colors"].attrs["space"] = "sRGB"
            group["global_descriptor"] = rng.random(count)
            group["focal"] = 612.5
            group["thumbnail"] = rng.random((count + 3, 5))
            if sizes:
                group["image_size"] = np.array([width, height])
    return path


def masks_of_images(folder: Path) -> dict[str, Any]:
    for number, (name, size) in enumerate(IMAGES.items()):
        save_mask(folder / f"{name}.png", random_mask(number, *size))
    return {"folder": folder}


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 128, 200])
@pytest.mark.parametrize("dimension", [2, 4, 128])
def test_any_features_file_is_masked(tmp_path: Path, count: int, dimension: int) -> None:
    source = sift_like(tmp_path / "f.h5", dict.fromkeys(IMAGES, count), dimension)
    output = stage.main(masks_of_images(tmp_path / "masks"), source, tmp_path / "new" / "out.h5")
    before, after = read(source), read(output)
    assert set(after) == set(before) == set(IMAGES)
    for number, (name, size) in enumerate(IMAGES.items()):
        old, new = before[name], after[name]
        flags = np.array(inside(random_mask(number, *size), old["keypoints"]), dtype=bool)
        expected = dict(old)
        for key in ("keypoints", "scales", "oris", "scores", "colors"):
            expected[key] = old[key][flags]
        expected["descriptors"] = old["descriptors"][:, flags]
        assert same(new, expected)
    with h5py.File(output) as file:
        assert file.attrs["made by"] == "another tool"
        assert json.loads(file.attrs[CONF_ATTRIBUTE])["masked"] == {
            "folder": str(tmp_path / "masks")
        }
        for name in IMAGES:
            assert file[name].attrs["exposure"] == 0.25
            assert file[name]["keypoints"].attrs["uncertainty"] == 1.5
            assert file[name]["colors"].attrs["space"] == "sRGB"
    assert [path.name for path in output.parent.iterdir()] == ["out.h5"]


def write_matches(path: Path, counts: Mapping[str, int], pairs: list[Any], dtype: str) -> Path:
    rng = np.random.default_rng(2)
    with h5py.File(path, "w") as file:
        file.attrs["matcher"] = "nn"
        for first, second in pairs:
            group = file.create_group(names_to_pair(first, second))
            group.attrs["seconds"] = 1.25
            matches0 = rng.integers(-1, counts[second], counts[first])
            group["matches0"] = matches0.astype(dtype)
            group["matching_scores0"] = rng.uniform(0.1, 1, counts[first]).astype(np.float16)
            group["matches0"].attrs["note"] = "x"
            group["other"] = np.arange(counts[first])
    return path


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
def test_matches_at_masked_keypoints_are_removed(tmp_path: Path, dtype: str) -> None:
    first, second = IMAGES
    counts = {first: 90, second: 70}
    features = sift_like(tmp_path / "f.h5", counts, 8)
    pairs = [(first, second), (second, first), (second, second)]
    source = write_matches(tmp_path / "m.h5", counts, pairs, dtype)
    untouched = features.read_bytes(), source.read_bytes()
    output = stage.main(
        masks_of_images(tmp_path / "masks"), features, tmp_path / "out.h5", match_path=source
    )
    assert (features.read_bytes(), source.read_bytes()) == untouched
    xy = {name: arrays["keypoints"] for name, arrays in read(features).items()}
    flags = {
        name: inside(random_mask(number, *size), xy[name])
        for number, (name, size) in enumerate(IMAGES.items())
    }
    before, after = read(source), read(output)
    assert set(after) == set(before)
    for pair in pairs:
        old, new = before[names_to_pair(*pair)], after[names_to_pair(*pair)]
        kept = np.array(
            [
                m >= 0 and flags[pair[0]][i] and flags[pair[1]][m]
                for i, m in enumerate(old["matches0"])
            ]
        )
        assert 0 < kept.sum() < (old["matches0"] >= 0).sum()
        unmatched = old["matches0"] < 0
        expected = {
            "matches0": np.where(kept, old["matches0"], -1).astype(dtype),
            "matching_scores0": np.where(kept | unmatched, old["matching_scores0"], 0).astype(
                np.float16
            ),
            "other": old["other"],
        }
        assert same(new, expected)
    with h5py.File(output) as file:
        group = file[names_to_pair(first, second)]
        assert file.attrs["matcher"] == "nn"
        assert group.attrs["seconds"] == 1.25
        assert group["matches0"].attrs["note"] == "x"


def test_dense_features_need_the_photos(tmp_path: Path) -> None:
    counts = dict.fromkeys(IMAGES, 30)
    sized = sift_like(tmp_path / "sized.h5", counts, 8)
    dense = sift_like(tmp_path / "dense.h5", counts, 8, sizes=False)
    masks = masks_of_images(tmp_path / "masks")
    with pytest.raises(DiskHlocError) as error:
        stage.main(masks, dense, tmp_path / "out.h5")
    assert one_line_error(error, dense, "a.jpg", "--images")
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name, (width, height) in IMAGES.items():
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(noise(0, width, height)).save(tmp_path / "images" / name, exif=exif)
    stage.main(masks, dense, tmp_path / "out.h5", image_dir=tmp_path / "images")
    stage.main(masks, sized, tmp_path / "expected.h5")
    for name, arrays in read(tmp_path / "expected.h5").items():
        del arrays["image_size"]
        assert same(read(tmp_path / "out.h5")[name], arrays)
    pairs = [tuple(IMAGES)]
    source = write_matches(tmp_path / "m.h5", counts, pairs, "int16")
    for features in (dense, sized):
        stage.main(
            masks,
            features,
            tmp_path / f"m_{features.name}",
            match_path=source,
            image_dir=tmp_path / "images",
        )
    assert same(*(read(tmp_path / f"m_{f.name}")["a.jpg/sub-b.png"] for f in (dense, sized)))
    width, height = IMAGES["a.jpg"]
    Image.fromarray(noise(0, height, width)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(DiskHlocError) as error:
        stage.main(masks, sized, tmp_path / "out2.h5", image_dir=tmp_path / "images")
    assert one_line_error(error, sized, f"a.jpg ({height} x {width} and {width} x {height})")
    (tmp_path / "images" / "a.jpg").write_text("no image")
    with pytest.raises(DiskHlocError) as error:
        stage.main(masks, dense, tmp_path / "out2.h5", image_dir=tmp_path / "images")
    assert one_line_error(error, "a.jpg")


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    counts = dict.fromkeys(IMAGES, 30)
    features = sift_like(tmp_path / "f.h5", counts, 8)
    matches = write_matches(tmp_path / "m.h5", counts, [tuple(IMAGES)], "int16")
    masks = masks_of_images(tmp_path / "masks")
    whole = {path: path.read_bytes() for path in (features, matches)}
    for output, match_path in [(features, None), (features, matches), (matches, matches)]:
        for overwrite in (False, True):
            with pytest.raises(DiskHlocError) as error:
                stage.main(masks, features, output, match_path=match_path, overwrite=overwrite)
            assert one_line_error(error, output)
    (tmp_path / "link.h5").symlink_to(features)
    with pytest.raises(DiskHlocError, match="give another name"):
        stage.main(masks, features, tmp_path / "link.h5", overwrite=True)
    assert all(path.read_bytes() == content for path, content in whole.items())
    output = tmp_path / "out.h5"
    output.write_bytes(b"\x89HDF\r\n\x1a\nprecious")
    with pytest.raises(DiskHlocError, match="--overwrite"):
        stage.main(masks, features, output)
    assert output.read_bytes().endswith(b"precious")
    stage.main(masks, features, output, overwrite=True)
    assert set(read(output)) == set(IMAGES)


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    counts = dict.fromkeys(IMAGES, 30)
    features = sift_like(tmp_path / "f.h5", counts, 8)
    good = masks_of_images(tmp_path / "masks")
    save_mask(tmp_path / "flat" / "a.jpg.png", np.ones((4, 90), dtype=bool))
    pair = tuple(IMAGES)
    others = write_matches(tmp_path / "others.h5", dict.fromkeys(IMAGES, 31), [pair], "int16")
    fewer = write_matches(tmp_path / "fewer.h5", {"a.jpg": 30, "sub/b.png": 99}, [pair], "int16")
    unknown = tmp_path / "unknown.h5"
    with h5py.File(unknown, "w") as file:
        file["a.jpg/zzz.jpg/matches0"] = np.zeros(30, dtype=np.int16)
    no_matches = tmp_path / "no.h5"
    with h5py.File(no_matches, "w") as file:
        file["a.jpg/sub-b.png/other"] = np.zeros(30, dtype=np.int16)
    broken = tmp_path / "broken.h5"
    broken.write_text("no HDF5 file")
    work = tmp_path / "work"
    work.mkdir()
    cases: list[tuple[dict[str, Any], Path, Path | None, str]] = [
        ({"folder": tmp_path / "flat"}, features, None, "90x4"),
        ({"folder": tmp_path / "flat", "missing": "error"}, features, None, "a.jpg"),
        ({"folder": tmp_path / "absent"}, features, None, "absent"),
        (good, tmp_path / "absent.h5", None, "absent.h5"),
        (good, broken, None, "broken.h5"),
        (good, features, broken, "broken.h5"),
        (good, features, others, "others.h5"),
        (good, features, fewer, "fewer.h5"),
        (good, features, unknown, "zzz.jpg"),
        (good, features, no_matches, "matches0"),
    ]
    for masks, source, match_path, part in cases:
        for existing in (False, True):
            output = work / "out.h5"
            if existing:
                output.write_bytes(b"\x89HDF\r\n\x1a\nprecious")
            with pytest.raises(DiskHlocError) as error:
                stage.main(masks, source, output, match_path=match_path, overwrite=existing)
            assert one_line_error(error, part)
            assert [path.name for path in work.iterdir()] == (["out.h5"] if existing else [])
            if existing:
                assert output.read_bytes().endswith(b"precious")
                output.unlink()


@pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"), reason="the native engine needs pycolmap 3.13"
)
def test_a_fully_masked_image_is_not_in_the_model(scene: Path, tmp_path: Path) -> None:
    save_mask(tmp_path / "masks" / "0002.jpg.png", np.zeros((384, 512), dtype=bool))
    summary = sfm.main(
        scene / "images",
        tmp_path / "out",
        masks={"folder": tmp_path / "masks"},
        extractor=write_sift(tmp_path),
        engine="native",
        device="cpu",
    )
    assert (summary["images"], summary["registered"]) == (5, 4)
    features = read(tmp_path / "out" / "features.h5")
    assert features["0002.jpg"]["keypoints"].shape == (0, 2)
    assert features["0002.jpg"]["descriptors"].shape == (128, 0)
    assert len(features["0001.jpg"]["keypoints"]) > 100
    model = pycolmap.Reconstruction(tmp_path / "out" / "sfm")
    assert "0002.jpg" not in {model.images[i].name for i in model.reg_image_ids()}
