"""Masks: which keypoints they keep, as in COLMAP, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.masks import (
    Masks,
    find_mask,
    fit,
    grow_ignored,
    keep_keypoints,
    log_missing,
    read_mask,
    to_json,
)
from support.errors import one_line_error

SIZE = (24, 16)  # width, height


def save(path: Path, values: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def white(size: tuple[int, int] = SIZE, value: int = 255) -> np.ndarray:
    return np.full((size[1], size[0]), value, dtype=np.uint8)


def random_mask(seed: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < 0.5


@pytest.mark.parametrize(
    ("x", "pixel"),
    [
        (0.0, 0),
        (2.49, 2),
        (2.5, 3),
        (np.nextafter(np.float32(2.5), np.float32(0)), 2),
        (3.49, 3),
        (-0.5, 0),
        (-0.51, None),
        (9.49, 9),
        (9.5, None),
        (-1e6, None),
        (1e6, None),
    ],
)
def test_a_pixel_extends_half_a_pixel_to_each_side(x: float, pixel: int | None) -> None:
    for axis in (0, 1):
        for column in range(10):
            mask = np.zeros((10, 10), dtype=bool)
            mask[(slice(None), column) if axis == 0 else (column, slice(None))] = True
            xy = np.full((1, 2), 4, dtype=np.float32)
            xy[0, axis] = x
            assert keep_keypoints(mask, xy).tolist() == [column == pixel]


def test_no_keypoints_can_be_masked_too() -> None:
    assert keep_keypoints(np.ones((3, 4), dtype=bool), np.zeros((0, 2))).shape == (0,)


@pytest.mark.skipif(
    Version(pycolmap.__version__) < Version("3.13"),
    reason="pycolmap before 3.13 extracts with other options",
)
def test_colmap_keeps_the_same_keypoints(scene: Path, tmp_path: Path) -> None:
    """SIFT's keypoints lie between pixels, so that rounding decides in a mask of single pixels."""
    images = sorted(path.name for path in (scene / "images").iterdir())
    height, width = 384, 512
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(0)
    masks = [
        (x + y) % 2 == 0,
        rng.random((height, width)) < 0.5,
        rng.random((height, width)) < 0.05,
        x % 3 == 1,
        (y % 2 == 0) & (x < 300),
    ]
    for name, mask in zip(images, masks, strict=True):
        save(tmp_path / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)

    def sift(database: Path, **options: Any) -> dict[str, np.ndarray]:
        pycolmap.extract_features(
            database,
            scene / "images",
            reader_options=pycolmap.ImageReaderOptions(**options),
            device=pycolmap.Device.cpu,
        )
        with pycolmap.Database.open(database) as content:
            return {
                image.name: content.read_keypoints(image.image_id)[:, :2]
                for image in content.read_all_images()
            }

    everything = sift(tmp_path / "all.db")
    masked = sift(tmp_path / "masked.db", mask_path=tmp_path / "masks")
    ours = Masks({"folder": tmp_path / "masks"})
    total = 0
    for name in images:
        # COLMAP's (0, 0) is the corner of the top-left pixel.
        kept = keep_keypoints(ours(name, (width, height)), everything[name] - 0.5)
        assert 0 < kept.sum() < len(kept)
        assert {*map(tuple, everything[name][kept])} == {*map(tuple, masked[name])}
        assert kept.sum() == len(masked[name])
        total += len(kept)
    assert total > 1000


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif", ".webp"])
def test_the_mask_of_a_photo(tmp_path: Path, suffix: str) -> None:
    order = ["a/b.jpg.png", "a/b.png", f"a/b.jpg{suffix}", f"a/b{suffix}"]
    assert find_mask(tmp_path, "a/b.jpg") is None
    for name in reversed(order):
        save(tmp_path / name, white())
        assert find_mask(tmp_path, "a/b.jpg") == tmp_path / name
    assert find_mask(tmp_path, "a/c.jpg") is None
    assert find_mask(tmp_path, "b.jpg") is None


def test_exactly_black_is_ignored_as_in_colmap(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 127, 128, 255]], dtype=np.uint8)
    path = save(tmp_path / "m.png", values)
    assert read_mask(path).tolist() == [[False] + [True] * 5]
    assert read_mask(path, invert=True).tolist() == [[True] + [False] * 5]
    rgb = save(tmp_path / "rgb.png", np.dstack([values] * 3))
    assert read_mask(rgb).tolist() == [[False] + [True] * 5]
    one_bit = tmp_path / "bit.png"
    Image.fromarray(values).convert("1", dither=Image.Dither.NONE).save(one_bit)
    assert read_mask(one_bit).tolist() == [[False] * 4 + [True] * 2]
    wide = save(tmp_path / "wide.png", np.array([[0, 1, 256, 65535]], dtype=np.uint16))
    assert read_mask(wide).tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_masks_are_split_in_the_middle(tmp_path: Path, suffix: str) -> None:
    values = white((64, 64), 0)
    values[:, 30:] = 255
    path = save(tmp_path / f"m{suffix}", values, quality=30)
    with Image.open(path) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 2
    assert np.array_equal(read_mask(path), values > 0)
    assert np.array_equal(read_mask(path, invert=True), values == 0)
    gray = save(tmp_path / f"gray{suffix}", white((16, 16), 100), quality=95)
    assert not read_mask(gray).any()


def test_label_maps(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 11], [12, 200, 255]], dtype=np.uint8)
    expected = ~np.isin(ids, [11, 12])
    gray = save(tmp_path / "gray.png", ids)
    assert np.array_equal(read_mask(gray, ignore_labels=[11, 12]), expected)
    palette = Image.new("P", (3, 2))
    palette.putdata(ids.ravel().tolist())
    palette.putpalette([7] * 768)  # every colour is the same: only the index tells
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_mask(tmp_path / "palette.png", ignore_labels=[11, 12]), expected)
    wide_ids = np.array([[0, 300, 44], [40000, 65535, 1]], dtype=np.uint16)
    wide = save(tmp_path / "wide.png", wide_ids)
    # 300 is 44 in 8 bits.
    assert read_mask(wide, ignore_labels=[300, 40000]).tolist() == [
        [True, False, True],
        [False, True, True],
    ]
    panoptic_ids = np.array([[0, 1, 256], [65536, 5 + 256 * 6 + 65536 * 7, 255]])
    channels = [panoptic_ids % 256, panoptic_ids // 256 % 256, panoptic_ids // 65536]
    panoptic = save(tmp_path / "panoptic.png", np.dstack(channels).astype(np.uint8))
    assert np.array_equal(
        read_mask(panoptic, ignore_labels=[256, 5 + 256 * 6 + 65536 * 7]),
        ~np.isin(panoptic_ids, [256, 5 + 256 * 6 + 65536 * 7]),
    )
    # Label 0 may be ignored, and with labels all others are kept.
    assert read_mask(gray, ignore_labels=[0]).sum() == 5
    masks = Masks({"file": gray, "ignore_labels": [255]})
    assert masks("x.jpg", (3, 2)).tolist() == [[True, True, True], [True, True, False]]


def test_one_mask_for_all(tmp_path: Path) -> None:
    values = white()
    values[:, :5] = 0
    masks = Masks({"file": save(tmp_path / "m.png", values)})
    for name in ("a.jpg", "b/c.png"):
        assert np.array_equal(masks(name, SIZE), values > 0)
    assert masks.missing == set()


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_several_sources_keep_the_pixels_that_all_keep(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("several")
    first, second = random_mask(seed, *SIZE), random_mask(seed + 1, *SIZE)
    save(folder / "masks" / "a.png", first.astype(np.uint8) * 255)
    save(folder / "all.png", second.astype(np.uint8))
    masks = Masks({"folder": folder / "masks", "file": folder / "all.png"})
    assert np.array_equal(masks("a.jpg", SIZE), first & second)
    assert np.array_equal(masks("b.jpg", SIZE), second)
    inverted = Masks({"folder": folder / "masks", "file": folder / "all.png", "invert": True})
    assert np.array_equal(inverted("a.jpg", SIZE), ~first & ~second)


@given(
    st.integers(0, 12),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3),
)
def test_the_ignored_region_grows_by_a_disc(
    pixels: int, size: tuple[int, int], spots: list[tuple[float, float]]
) -> None:
    width, height = size
    mask = np.ones((height, width), dtype=bool)
    y, x = np.mgrid[:height, :width]
    nearest = np.full((height, width), np.inf)
    for across, down in spots:
        column, row = int(across * (width - 1)), int(down * (height - 1))
        mask[row, column] = False
        nearest = np.minimum(nearest, np.hypot(x - column, y - row))
    grown = grow_ignored(mask, pixels)
    assert not grown[nearest <= pixels].any()
    # The disc is drawn in whole pixels.
    assert grown[nearest > pixels + 0.5].all()


def test_dilate_comes_after_all_sources(tmp_path: Path) -> None:
    first, second = white(), white()
    first[8, 5] = second[8, 15] = 0
    save(tmp_path / "masks" / "a.png", first)
    file = save(tmp_path / "all.png", second)
    mask = Masks({"folder": tmp_path / "masks", "file": file, "dilate": 2})("a.jpg", SIZE)
    assert np.flatnonzero(~mask[8]).tolist() == [3, 4, 5, 6, 7, 13, 14, 15, 16, 17]
    assert mask[:6].all()


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30))
def test_a_mask_of_half_size_is_doubled(seed: int, width: int, height: int) -> None:
    mask = random_mask(seed, width, height)
    doubled = fit(mask, (2 * width, 2 * height), Path("m.png"), "a.jpg")
    assert np.array_equal(doubled, mask.repeat(2, axis=0).repeat(2, axis=1))
    assert np.array_equal(fit(doubled, (2 * width, 2 * height), Path("m.png"), "a.jpg"), doubled)


def test_a_mask_of_another_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "masks" / "a" / "b.jpg.png", white((300, 200)))
    masks = Masks({"folder": tmp_path / "masks"})
    assert masks("a/b.jpg", (302, 200)).shape == (200, 302)
    assert masks("a/b.jpg", (1500, 1007)).shape == (1007, 1500)
    for size in ((200, 300), (306, 200), (300, 204)):
        with pytest.raises(DiskHlocError) as error:
            masks("a/b.jpg", size)
        assert one_line_error(error, path, "a/b.jpg", "300x200", f"{size[0]}x{size[1]}")


def test_a_missing_mask(tmp_path: Path) -> None:
    save(tmp_path / "a.png", white(value=0))
    masks = Masks({"folder": tmp_path})
    assert not masks("a.jpg", SIZE).any()
    assert masks.missing == set()
    kept = masks("sub/b.jpg", SIZE)
    assert kept.all()
    assert kept.shape == SIZE[::-1]
    assert kept.dtype == bool
    assert masks.missing == {"sub/b.jpg"}
    strict = Masks({"folder": tmp_path, "missing": "error"})
    assert not strict("a.jpg", SIZE).any()
    with pytest.raises(DiskHlocError) as error:
        strict("sub/b.jpg", SIZE)
    assert one_line_error(error, "sub/b.jpg")


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    """A truncated PNG is an error, unless only the 12 bytes of its end marker are missing."""
    path = save(tmp_path / "m.png", random_mask(0, 64, 64).astype(np.uint8) * 255)
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 20, 33, 40, 41, 60, *range(80, len(whole) - 20, 37)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DiskHlocError) as error:
            read_mask(path)
        assert one_line_error(error, path)
        with pytest.raises(DiskHlocError):
            Masks({"file": path})
    path.write_text("no image")
    with pytest.raises(DiskHlocError) as error:
        Masks({"folder": tmp_path})("m.jpg", SIZE)
    assert one_line_error(error, path)
    with pytest.raises(DiskHlocError) as error:
        Masks({"file": tmp_path / "absent.png"})
    assert one_line_error(error, "absent.png")


@pytest.mark.parametrize(
    ("conf", "part"),
    [
        ({"folders": "x"}, "folders"),
        ({"folder": "absent"}, "absent"),
        ({"coco": "absent.json"}, "absent.json"),
        ({}, "no masks given"),
        ({"dilate": 3}, "no masks given"),
        ({"file": "m.png", "dilate": -1}, "-1"),
        ({"file": "m.png", "missing": "maybe"}, "maybe"),
    ],
)
def test_invalid_confs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: dict[str, Any], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "m.png", white())
    with pytest.raises(DiskHlocError) as error:
        Masks(conf)
    assert one_line_error(error, part)


def test_a_stored_conf_has_the_non_default_values() -> None:
    conf = {"folder": Path("masks"), "dilate": 0, "invert": True, "missing": "keep"}
    assert to_json(conf) == {"folder": "masks", "invert": True}


@pytest.mark.parametrize(("count", "level"), [(2, "WARNING"), (3, "INFO")])
def test_masks_of_which_none_fits_are_a_warning(count: int, level: str, caplog) -> None:
    with caplog.at_level("INFO"):
        log_missing({"a/b.jpg", "c.jpg"}, count)
    (record,) = caplog.records
    assert record.levelname == level
    assert level == "INFO" or "a/b.jpg.png or a/b.png" in record.getMessage()
