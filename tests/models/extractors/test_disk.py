"""DISK against kornia's, the reference for its keypoints."""

from __future__ import annotations

from pathlib import Path

import kornia
import kornia.feature
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.loader import load_photo
from disk_hloc.models.extractors.disk import DISK
from disk_hloc.weights import load_disk

# Before 0.9 kornia dropped the weakest keypoint of an image that has no more than max_keypoints,
# and judged maxima near the border otherwise.
same_rules = pytest.mark.skipif(
    Version(kornia.__version__) < Version("0.9"), reason="kornia before 0.9 had other rules"
)


@pytest.fixture(scope="module")
def reference() -> kornia.feature.DISK:
    model = kornia.feature.DISK()
    model.load_state_dict(load_disk("depth"))
    return model.eval()


@torch.inference_mode()
def assert_same(ours: DISK, reference: kornia.feature.DISK, image: torch.Tensor) -> int:
    """The same keypoints in the same order, scores and descriptors; how many there are.

    Scores are logits of some hundreds; the bounds are those of float32 through ten convolutions.
    """
    got = ours({"image": image})
    expected = reference(
        image.expand(-1, 3, -1, -1),
        n=ours.conf["max_keypoints"],
        window_size=ours.conf["nms_window_size"],
        score_threshold=ours.conf["detection_threshold"],
        pad_if_not_divisible=ours.conf["pad_if_not_divisible"],
    )
    for i, features in enumerate(expected):
        torch.testing.assert_close(got["keypoints"][i], features.keypoints, rtol=0, atol=0)
        torch.testing.assert_close(
            got["keypoint_scores"][i], features.detection_scores, rtol=1e-5, atol=5e-3
        )
        cosines = (got["descriptors"][i].T * features.descriptors).sum(dim=1)
        assert len(cosines) == 0 or cosines.min() > 0.99999
        assert got["keypoints"][i].dtype == got["descriptors"][i].dtype == torch.float32
    return sum(len(features.keypoints) for features in expected)


@same_rules
@pytest.mark.parametrize("index", [0, 4])
def test_a_photo_gives_kornias_features(reference, sacre_coeur: Path, index: int) -> None:
    name = sorted(path.name for path in sacre_coeur.iterdir())[index]
    photo = load_photo(sacre_coeur, name, {"resize_max": 800})
    ours = DISK({"max_keypoints": 1000, "subpixel": False})
    assert assert_same(ours, reference, torch.from_numpy(photo.image)[None]) == 1000


@same_rules
@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(17, 90),
    width=st.integers(17, 90),
    window=st.sampled_from([1, 3, 5, 7, 9]),
    limit=st.sampled_from([None, 1, 20, 10_000]),
    threshold=st.sampled_from([0.0, 1.5, -1.0]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
)
def test_any_size_and_conf_gives_kornias_features(
    reference, height, width, window, limit, threshold, channels, seed
) -> None:
    image = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed))
    conf = {
        "max_keypoints": limit,
        "nms_window_size": window,
        "detection_threshold": threshold,
        "subpixel": False,
    }
    assert_same(DISK(conf), reference, image)


@same_rules
def test_every_pixel_is_described_as_by_kornia(reference) -> None:
    """Corners and borders too, whose 5 x 5 patches run off the image."""
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    ours = DISK({"nms_window_size": 1, "detection_threshold": -1e9, "subpixel": False})
    assert assert_same(ours, reference, image) == 32 * 48


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (16, 16), (5, 12), (16, 17)])
@torch.inference_mode()
def test_tiny_images_do_not_fail(size: tuple[int, int]) -> None:
    prediction = DISK()({"image": torch.rand(1, 3, *size)})
    keypoints, descriptors = prediction["keypoints"][0], prediction["descriptors"][0]
    assert descriptors.shape == (128, len(keypoints))
    assert (keypoints >= 0).all()
    assert (keypoints < torch.tensor([size[1], size[0]])).all()


@pytest.mark.parametrize("size", [(16, 48), (48, 16), (40, 9), (700, 3)])
@same_rules
def test_an_image_of_one_stride_across_gives_kornias_features(reference, size) -> None:
    """At the bottom of the U-Net it is one row or column."""
    torch.manual_seed(0)
    ours = DISK({"max_keypoints": None, "subpixel": False, "nms_window_size": 3})
    assert_same(ours, reference, torch.rand(1, 3, *size))


@torch.inference_mode()
def test_no_keypoint_lies_in_the_padding() -> None:
    # 33 needs 15 rows of padding; a bright edge at the border lights up beyond it.
    image = torch.zeros(1, 3, 33, 49)
    image[..., -4:, -4:] = 1
    prediction = DISK({"detection_threshold": -1e9})({"image": image})
    keypoints = prediction["keypoints"][0]
    assert len(keypoints) > 0
    assert keypoints[:, 0].max() <= 48 - 2
    assert keypoints[:, 1].max() <= 32 - 2


@torch.inference_mode()
def test_a_flat_image_has_no_keypoint_and_empty_arrays() -> None:
    prediction = DISK({"detection_threshold": 1e9, "max_keypoints": 10})(
        {"image": torch.zeros(1, 3, 32, 32)}
    )
    assert prediction["keypoints"][0].shape == (0, 2)
    assert prediction["keypoint_scores"][0].shape == (0,)
    assert prediction["descriptors"][0].shape == (128, 0)


def test_padding_that_is_off_is_an_error_with_the_size() -> None:
    with pytest.raises(DiskHlocError, match="33x32"):
        DISK({"pad_if_not_divisible": False})({"image": torch.zeros(1, 3, 32, 33)})


def test_an_even_window_is_an_error() -> None:
    with pytest.raises(DiskHlocError, match="nms_window_size: 4"):
        DISK({"nms_window_size": 4})


def test_no_dense_descriptors_are_made() -> None:
    """What the network keeps of an image is far less than a descriptor for every pixel."""
    model = DISK({"max_keypoints": 10})
    with torch.profiler.profile(profile_memory=True, record_shapes=True) as profile:
        model({"image": torch.rand(1, 3, 256, 256)})
    dense = 128 * 256 * 256 * 4
    largest = max(abs(event.self_cpu_memory_usage) for event in profile.events())
    assert 0 < largest < dense / 2


@torch.inference_mode()
def test_half_precision_finds_nearly_the_same(sacre_coeur: Path) -> None:
    photo = load_photo(
        sacre_coeur, min(path.name for path in sacre_coeur.iterdir()), {"resize_max": 640}
    )
    image = torch.from_numpy(photo.image)[None]
    exact, rough = (
        DISK({"max_keypoints": 500, "subpixel": False, "precision": precision})({"image": image})
        for precision in ("float32", "bfloat16")
    )
    same = {tuple(point) for point in exact["keypoints"][0].tolist()}
    same &= {tuple(point) for point in rough["keypoints"][0].tolist()}
    assert 0.95 * 500 < len(same) < 500


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(DiskHlocError, match="float32, bfloat16, float16"):
        DISK({"precision": "int8"})


@torch.inference_mode()
def test_a_result_outlives_the_next_image() -> None:
    """The network's memory is used again; what it has returned is not in it."""
    model = DISK({"max_keypoints": 50})
    image = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    first = model({"image": image[:1]})
    copies = {key: values[0].clone() for key, values in first.items()}
    model({"image": image[1:]})
    for key, values in copies.items():
        torch.testing.assert_close(first[key][0], values, rtol=0, atol=0)
    both = model({"image": image})
    for key, values in copies.items():
        torch.testing.assert_close(both[key][0], values, rtol=0, atol=0)


def test_any_pixel_is_described_as_a_keypoint_is() -> None:
    model = DISK({"max_keypoints": 50, "subpixel": False})
    image = torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model({"image": image})
        pixels = found["keypoints"][0].long()
        described = model.describe(image, pixels)
    assert described.shape == (128, len(pixels))
    torch.testing.assert_close(described, found["descriptors"][0])


@torch.inference_mode()
def test_a_position_between_pixels_is_described_by_the_nearest() -> None:
    """Beyond the image, by the nearest pixel of it."""
    model = DISK()
    image = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    xy = torch.tensor([[10.4, 20.6], [-3.0, 12.0], [60.0, 39.4]], dtype=torch.float64)
    nearest = torch.tensor([[10, 21], [0, 12], [49, 39]])
    torch.testing.assert_close(model.describe(image, xy), model.describe(image, nearest))
