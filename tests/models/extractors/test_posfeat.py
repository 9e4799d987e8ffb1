"""PoSFeat against numbers of its published code, and what differs from it by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.disk_network.keypoints import refine_keypoints
from disk_hloc.models.extractors.opencv_sift import SIFT
from disk_hloc.models.extractors.posfeat import PoSFeat
from disk_hloc.models.posfeat_keypoints import centroids
from disk_hloc.models.posfeat_network import KeypointDet, PoSFeatNetwork, convolve_enlarged
from disk_hloc.models.resnet import normalized
from disk_hloc.weights import identify, renamed
from support.errors import one_line_error
from support.random_weights import random_image, random_weights

PUBLISHED_NAMES = {
    "backbone.trunk.conv1.": "backbone.firstconv.",
    "backbone.trunk.bn1.": "backbone.firstbn.",
    "backbone.trunk.layer": "backbone.layer",
    "localheader.prelu.": "localheader.relu.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as PoSFeat's code writes it, of ResNet-18 instead of ResNet-50."""
    path = tmp_path_factory.mktemp("posfeat") / "005"
    path.mkdir()
    with torch.device("meta"):
        like = renamed(PoSFeatNetwork(18).state_dict(), PUBLISHED_NAMES)
    parameters = random_weights(like)
    parameters["backbone.conv_coarse.conv.bias"] = torch.zeros(128)
    for part in ("backbone", "localheader"):
        of_part = {
            name.replace(f"{part}.", "module.", 1): value
            for name, value in parameters.items()
            if name.startswith(part)
        }
        torch.save(of_part, path / f"{part}.pth")
    return path


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """Neither side is a multiple of 16: PoSFeat's code takes 96 x 64 of it."""
    return random_image(70, 104)


@torch.inference_mode()
def test_maps_are_those_of_the_published_code(folder, image) -> None:
    maps = PoSFeat({"weights": str(folder)}).net(image[..., :64, :96])
    expected = torch.tensor([1.5966809, 0.0650996, -0.3504365, -0.6172799])
    torch.testing.assert_close(maps.descriptors[0, :4, 5, 7], expected, rtol=0, atol=1e-5)
    assert maps.descriptors.mean() == pytest.approx(0.1525418, abs=1e-5)
    assert maps.descriptors.std() == pytest.approx(0.7485431, abs=1e-5)
    expected = torch.tensor([0.5988120, 1.1898227, 1.3624264])
    at = maps.scores[0, 0, [0, 31, 63], [0, 40, 95]]
    torch.testing.assert_close(at, expected, rtol=0, atol=2e-5)
    assert maps.scores.std() == pytest.approx(0.5666472, abs=1e-5)


@pytest.mark.parametrize(("radius", "threshold", "count"), [(1, 0.9, 38), (3, 0.5, 36)])
@torch.inference_mode()
def test_features_are_those_of_the_published_code(folder, image, radius, threshold, count) -> None:
    conf = {"nms_radius": radius, "detection_threshold": threshold, "release": True}
    found = PoSFeat({"weights": str(folder), **conf})({"image": image})
    assert len(found["keypoints"][0]) == count
    best = found["keypoint_scores"][0].topk(4).indices
    expected = [[21.0100, 38.0060], [25.9877, 33.9983], [93.9477, 17.0254], [30.0164, 21.0003]]
    torch.testing.assert_close(
        found["keypoints"][0][best], torch.tensor(expected), rtol=0, atol=3e-4
    )
    expected = [3.63287, 3.39879, 2.68163, 2.39424]
    torch.testing.assert_close(
        found["keypoint_scores"][0][best], torch.tensor(expected), rtol=0, atol=2e-4
    )
    expected = [
        [0.27506, 0.00722, -0.05989],
        [0.19195, 0.00907, -0.05308],
        [0.14901, -0.00828, -0.12157],
        [0.19292, 0.01112, -0.04079],
    ]
    torch.testing.assert_close(
        found["descriptors"][0][:3, best].T, torch.tensor(expected), rtol=0, atol=3e-5
    )


@settings(max_examples=15, deadline=None)
@given(
    small=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    seed=st.integers(0, 2**31),
)
def test_the_convolution_of_an_enlarged_map_is_exact(small, size, seed) -> None:
    """Values, and gradients, for any two sizes."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 3, *small, dtype=torch.float64, generator=random).requires_grad_()
    weight = torch.randn(11, 3, 3, 3, dtype=torch.float64, generator=random).requires_grad_()
    found = convolve_enlarged(values, weight, torch.Size(size))
    plain = F.conv2d(F.interpolate(values, size, mode="bilinear"), weight, padding=1)
    torch.testing.assert_close(found, plain)
    with torch.no_grad():
        torch.testing.assert_close(convolve_enlarged(values, weight, torch.Size(size)), plain)
    towards = torch.randn(plain.shape, dtype=torch.float64, generator=random)
    expected = torch.autograd.grad(plain, (values, weight), towards)
    torch.testing.assert_close(torch.autograd.grad(found, (values, weight), towards), expected)


def test_detection_gives_the_backbone_no_gradient() -> None:
    network = PoSFeatNetwork(18)
    image = random_image(32, 32)
    network(image).scores.sum().backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is not None for parameter in network.localheader.parameters())


def test_by_default_a_peak_is_found_where_the_centroid_is_not() -> None:
    y, x = torch.meshgrid(torch.arange(11.0), torch.arange(11.0), indexing="ij")
    scores = torch.exp(-((x - 5.4) ** 2 + (y - 4.7) ** 2) / 4.5)
    at, peak = torch.tensor([[5, 5]]), torch.tensor([[5.4, 4.7]])
    assert (refine_keypoints(scores, at) - peak).norm() < 0.05
    assert (centroids(scores, at) - peak).norm() > 0.25


@torch.inference_mode()
def test_a_descriptor_is_sampled_at_its_keypoint(folder, image) -> None:
    """Cells of the map are centred on multiples of 4, up to the right and the bottom."""
    conf = {"nms_radius": 1, "detection_threshold": 0.0}
    model = PoSFeat({"weights": str(folder), **conf})
    found = model({"image": image})
    xy = found["keypoints"][0]
    torch.testing.assert_close(model.describe(image, xy), found["descriptors"][0])
    padded = F.pad(image, (0, 8, 0, 10), mode="replicate")
    dense = F.normalize(model.net.describe(padded)[0], dim=0)
    cells = torch.tensor([[0.0, 0.0], [100.0, 68.0], [40.0, 12.0]])
    expected = dense[:, [0, 17, 3], [0, 25, 10]]
    torch.testing.assert_close(model.describe(image, cells), expected, rtol=0, atol=1e-5)
    # Beyond what the published code cuts off.
    assert xy[:, 0].max() > 96
    assert xy[:, 1].max() > 64


@torch.inference_mode()
def test_sifts_keypoints_are_described_once_a_place(folder, image) -> None:
    model = PoSFeat({"weights": str(folder), "keypoints": "sift"})
    found = model({"image": image})
    sift = SIFT()({"image": image})
    places = sift["keypoints"][0].unique(dim=0)
    assert len(places) > 5
    torch.testing.assert_close(found["keypoints"][0], places)
    torch.testing.assert_close(model.describe(image, places), found["descriptors"][0])
    best = PoSFeat({"weights": str(folder), "keypoints": "sift", "max_keypoints": 2})
    kept = best({"image": image})["keypoint_scores"][0]
    assert kept.min() >= found["keypoint_scores"][0].sort().values[-2]


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (9, 40)])
@torch.inference_mode()
def test_small_and_gray_and_flat_images(folder, release, size) -> None:
    model = PoSFeat({"weights": str(folder), "release": release, "nms_radius": 1})
    for given_image in (torch.rand(1, 1, *size), torch.zeros(1, 3, *size)):
        found = model({"image": given_image})
        assert found["descriptors"][0].shape == (128, len(found["keypoints"][0]))
        assert (found["keypoints"][0] < torch.tensor([size[1], size[0]])).all()


def test_a_file_of_one_training_run_is_read_as_the_folder_is(folder, tmp_path) -> None:
    model = PoSFeat({"weights": str(folder)})
    torch.save({"extractor": model.net.state_dict()}, tmp_path / "save-3.pth")
    again = PoSFeat({"weights": str(tmp_path / "save-3.pth")})
    for name, value in again.net.state_dict().items():
        assert torch.equal(value, model.net.state_dict()[name])


def test_the_digest_of_a_folder_is_that_of_both_files(folder, tmp_path) -> None:
    copy = tmp_path / "006"
    copy.mkdir()
    for part in ("backbone", "localheader"):
        (copy / f"{part}.pth").write_bytes((folder / f"{part}.pth").read_bytes())
    assert identify(copy) == identify(folder)
    torch.save({"module.convimg.weight": torch.zeros(1)}, copy / "localheader.pth")
    assert identify(copy) != identify(folder)
    with pytest.raises(DiskHlocError) as error:
        PoSFeat({"weights": str(copy)})
    assert one_line_error(error, copy, "another network than PoSFeat", "localheader.")


def test_without_weights_the_error_says_that_none_are_published(monkeypatch, folder) -> None:
    monkeypatch.setenv("DISK_HLOC_WEIGHTS", str(folder))
    with pytest.raises(DiskHlocError) as error:
        PoSFeat()
    assert one_line_error(error, "PoSFeat needs", "no weights", "train", "DISK_HLOC_WEIGHTS")
    with pytest.raises(DiskHlocError, match="not a checkpoint of PoSFeat"):
        PoSFeat({"weights": "depth"})


def test_weights_are_found_by_name_in_the_folder_of_weights(monkeypatch, folder, tmp_path) -> None:
    (tmp_path / "posfeat").symlink_to(folder)
    monkeypatch.setenv("DISK_HLOC_WEIGHTS", str(tmp_path))
    assert PoSFeat().net.backbone.trunk.depth == 18


def test_scores_are_of_the_image_itself() -> None:
    """The detector's normalisation makes them independent of the map's scale."""
    torch.manual_seed(0)
    head, small, image = KeypointDet(8), torch.rand(1, 8, 6, 6), normalized(random_image(24, 24))
    with torch.inference_mode():
        scores, scaled = head(small, image), head(small, 2 * image)
    assert scores.min() > 0
    logits = scores.expm1().log()
    assert logits.mean().abs() < 1e-3
    assert logits.std() == pytest.approx(1, abs=1e-2)
    torch.testing.assert_close(scores, scaled, rtol=0, atol=1e-2)
