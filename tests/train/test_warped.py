"""Views of photos under homographies: their geometry, their rewards, and runs on them."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.train import checkpoints, run
from disk_hloc.train.auc import CORNERS, _read, read_curves
from disk_hloc.train.correspondences import corresponding, one_of_each_cell, random_pixels
from disk_hloc.train.features import Features
from disk_hloc.train.figures import FAILED_ERROR_PX, homography_figures
from disk_hloc.train.geometry import transfer, without_baseline
from disk_hloc.train.homographies import random_warp
from disk_hloc.train.photometric import photometric_noise
from disk_hloc.train.rewards import depth_reward
from disk_hloc.train.settings import settings
from disk_hloc.train.validation import match_pair
from disk_hloc.train.warped import Warped, fixed_tuples, load_warped, view_of, warped_batches
from support.errors import one_line_error

SIZE = (96, 64)
WARP = settings()["warp"]
REWARDS = {"threshold": 1.5, "true_positive": 1.0, "false_positive": -0.25}
SHAPE = {key: WARP[key] for key in ("zoom", "rotation", "perspective")}


def project(homography: np.ndarray, xy: np.ndarray) -> np.ndarray:
    found = np.column_stack([xy, np.ones(len(xy))]) @ homography.T
    return found[:, :2] / found[:, 2:]


@given(seed=st.integers(0, 2**32 - 1), left=st.booleans())
@hypothesis_settings(deadline=None, max_examples=40)
def test_a_warp_shows_a_part_of_the_photo(seed: int, left: bool) -> None:
    homography = random_warp(SIZE, np.random.default_rng(seed), **SHAPE, left=left)
    corners = np.array([[0, 0], [SIZE[0], 0], SIZE, [0, SIZE[1]]]) - 0.5
    seen = project(np.linalg.inv(homography), corners)
    assert (seen > -0.5 - 1e-3).all()
    assert (seen < np.array(SIZE) - 0.5 + 1e-3).all()
    heights = np.linalg.norm(seen[3] - seen[0]), np.linalg.norm(seen[2] - seen[1])
    assert (heights[0] < heights[1]) == left
    assert cv2.contourArea(seen.astype(np.float32)) > 0.4 * SIZE[0] * SIZE[1]


@given(seed=st.integers(0, 2**32 - 1))
@hypothesis_settings(deadline=None, max_examples=30)
def test_transfer_between_views_is_their_homography(seed: int) -> None:
    rng = np.random.default_rng(seed)
    warps = [random_warp(SIZE, rng, **SHAPE, left=left) for left in (True, False)]
    view1, view2 = (view_of(one, SIZE) for one in warps)
    xy = rng.uniform(0, np.array(SIZE) - 1, (20, 2))
    found = transfer(torch.from_numpy(xy), view1, view2).numpy()
    expected = project(warps[1] @ np.linalg.inv(warps[0]), xy)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert without_baseline(view1, view2)
    # Every transferred position comes back.
    there, back = corresponding(torch.from_numpy(xy), view1, view2, SIZE, 1e-3)
    inside = ((expected >= 0) & (expected <= np.array(SIZE) - 1)).all(axis=1)
    assert len(there) == len(back) == inside.sum()


def views() -> tuple[Any, Any, np.ndarray]:
    rng = np.random.default_rng(3)
    warps = [random_warp(SIZE, rng, **SHAPE, left=left) for left in (True, False)]
    return *(view_of(one, SIZE) for one in warps), warps[1] @ np.linalg.inv(warps[0])


def test_a_match_earns_its_whole_reward() -> None:
    view1, view2, homography = views()
    xy1 = np.array([[40.0, 30], [50, 20], [30, 40]])
    xy2 = project(homography, xy1) + np.array([[0, 0], [1, 0], [0, 3]])
    rewards = depth_reward(torch.from_numpy(xy1), torch.from_numpy(xy2), view1, view2, **REWARDS)
    expected = torch.full((3, 3), -0.25, dtype=torch.float64)
    expected[0, 0] = expected[1, 1] = 1
    assert torch.equal(rewards, expected)


def test_validation_judges_by_the_homography() -> None:
    view1, view2, homography = views()
    x, y = np.meshgrid(np.arange(20, 80, 4), np.arange(12, 52, 4))
    xy1 = np.column_stack([x.ravel(), y.ravel()])
    xy2 = project(homography, xy1)
    descriptors = torch.nn.functional.normalize(torch.randn(len(xy1), 16), dim=1)
    first, second = (
        Features(torch.from_numpy(xy).round().long(), torch.zeros(len(xy)), descriptors)
        for xy in (xy1, xy2)
    )
    match = match_pair(first, second, view1, view2)
    assert len(match.indices) == len(xy1)
    assert float(match.error.max()) < 1.5
    assert float(match.error.max()) > 0.1
    error, inliers, success = homography_figures(xy1, xy2, view1, view2, SIZE, 1.0, 1000)
    assert error < 1e-3
    assert (inliers, success) == (len(xy1), 1)
    wrong = homography_figures(xy1, xy2 + np.array([20, 0]), view1, view2, SIZE, 1.0, 1000)
    assert wrong[0] == pytest.approx(20, abs=0.01)
    few = homography_figures(xy1[:5], xy2[:5], view1, view2, SIZE, 1.0, 1000)
    assert few == (FAILED_ERROR_PX, 0, 0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of blocks, one of them upright."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, (rows, columns) in enumerate(((9, 12), (12, 9), (6, 8))):
        grid = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), np.kron(grid, np.ones((16, 16, 1), np.uint8)))
    return folder


NAMES = ("0.png", "1.png", "2.png")


def load(photos: Path, seeds: tuple[int, ...], **changes: Any) -> Any:
    conf = WARP | {"noise": False} | changes
    tuples = [Warped(i, (*seeds, i)) for i in range(3)]
    return load_warped(photos, NAMES, tuples, size=SIZE, interpolation="cv2_linear", conf=conf)


def test_pixels_that_correspond_look_alike(photos: Path) -> None:
    batch = load(photos, (0,))
    assert batch.images.shape == (6, 3, 64, 96)
    for t, (view1, view2) in enumerate(batch.views):
        # From the left and from the right: the third row makes the far side larger.
        assert view1.matrix[2, 0] * view2.matrix[2, 0] < 0
        xy = random_pixels(SIZE, 400, torch.device("cpu"))
        xy1, xy2 = corresponding(xy, view1, view2, SIZE, 1.5)
        assert len(xy1) > 100
        first, second = batch.images[2 * t : 2 * t + 2]
        x1, y1 = xy1.long().T
        x2, y2 = xy2.round().long().T
        difference = (first[:, y1, x1] - second[:, y2, x2]).abs().amax(dim=0)
        # Blocks have edges, where half a pixel matters.
        assert difference.median() < 0.02
        wrong = (first[:, y1, x1] - second[:, y2.flip(0), x2.flip(0)]).abs().amax(dim=0)
        assert wrong.median() > 0.1


def test_a_tuple_depends_on_its_seeds_alone(photos: Path) -> None:
    for noise in (False, True):
        one, same, other = (load(photos, seeds, noise=noise) for seeds in ((1,), (1,), (2,)))
        assert torch.equal(one.images, same.images)
        assert not torch.equal(one.images, other.images)
        assert torch.equal(one.views[0][1].matrix, same.views[0][1].matrix)


def test_noise_keeps_the_place_of_things() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[20:44, 30:70] = (200, 120, 60)
    changed = [photometric_noise(image, np.random.default_rng(seed)) for seed in range(30)]
    assert sum(not np.array_equal(one, image) for one in changed) > 15
    for one in changed:
        assert one.dtype == np.uint8
        gray = one.mean(axis=2)
        assert gray[28:36, 42:58].mean() > gray[:10].mean() + 20


@given(count=st.integers(1, 7), size=st.integers(1, 4), world=st.integers(1, 3))
def test_each_photo_is_used_once_in_a_pass(count: int, size: int, world: int) -> None:
    streams = [warped_batches(count, size, 0, rank=r, world_size=world) for r in range(world)]
    steps = 2 * count
    drawn = [one for step in zip(*(islice(s, steps) for s in streams), strict=True)
             for batch in step for one in batch]  # fmt: skip
    for i in range(0, len(drawn) - count + 1, count):
        assert sorted(one.photo for one in drawn[i : i + count]) == list(range(count))
    assert len({one.seeds for one in drawn}) == len(drawn)
    resumed = next(warped_batches(count, size, 0, start=3, rank=world - 1, world_size=world))
    assert resumed == list(islice(warped_batches(count, size, 0, rank=world - 1,
                                                 world_size=world), 4))[3]  # fmt: skip


def test_validation_has_views_that_training_has_not() -> None:
    fixed = [one for batch in fixed_tuples(5, 4, 3, 0) for one in batch]
    trained = [one for batch in islice(warped_batches(5, 3, 0), 10) for one in batch]
    assert len(fixed) == len({one.photo for one in fixed}) == 4
    assert not {one.seeds for one in fixed} & {one.seeds for one in trained}
    assert fixed == [one for batch in fixed_tuples(5, 4, 3, 0) for one in batch]


def test_a_pixel_is_drawn_in_each_cell() -> None:
    xy = one_of_each_cell((50, 35), 16, torch.device("cpu"))
    cells = (xy / 16).long()
    assert cells.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert one_of_each_cell((10, 35), 16, torch.device("cpu")).shape == (0, 2)


def conf(**options: Any) -> dict[str, Any]:
    small = {"height": 64, "width": 64, "batch_size": 1, "warmup": 2, "chunk_size": 2}
    return settings("disk-warped", small | {"test_scene_limit": 2, "n_epochs": 2} | options)


def test_a_run_on_photos_is_resumed_to_the_bit(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"validation": photos, "device": "cpu", "save_every": 1}
    run.main(photos, tmp_path / "whole", conf(), **options)
    for epochs in (1, 2):
        run.main(photos, tmp_path / "parts", conf(n_epochs=epochs), **options)
    tags = ("train/reward", CORNERS, "test/homography/success", "test/discrete/precision")
    figures = _read(tmp_path / "whole", tags)
    assert figures == _read(tmp_path / "parts", tags)
    assert sorted(figures[CORNERS]) == [0, 1, 2, 3]
    ends = [
        torch.load(checkpoints.checkpoint_path(tmp_path / name, 1), weights_only=True)["disk"]
        for name in ("whole", "parts")
    ]
    for mine, theirs in zip(*(one.values() for one in ends), strict=True):
        assert torch.equal(mine, theirs)
    assert len(list((tmp_path / "whole" / "pictures").iterdir())) == 4
    curves = read_curves(tmp_path / "whole")
    assert curves.unit == "px"
    assert sorted(curves.auc) == [0, 1]


def test_a_data_set_validates_a_run_on_photos(
    photos: Path, training_set: Path, tmp_path: Path
) -> None:
    run.main(photos, tmp_path, conf(n_epochs=1), validation=training_set, device="cpu")
    assert read_curves(tmp_path).unit == "degrees"


def test_the_command_trains_on_photos(photos: Path, tmp_path: Path) -> None:
    command = ["train", str(photos), str(tmp_path / "out"), "--warped", "--device", "cpu"]
    options = "--height 64 --width 64 --batch-size 1 --warmup 1 --n-epochs 1"
    result = CliRunner().invoke(app, [*command, *options.split()])
    assert result.exit_code == 0, result.output
    content = torch.load(tmp_path / "out" / "save-0.pth", weights_only=True)
    assert content["settings"]["data"]["warped"] is True
    assert content["settings"]["run"]["data"].startswith("3 photos under homographies")


def test_a_run_is_not_resumed_on_photos_that_were_replaced(photos: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(photos, tmp_path / "photos"))
    run.main(mine, tmp_path / "out", conf(n_epochs=1), device="cpu")
    shutil.copy(mine / "2.png", mine / "0.png")
    with pytest.raises(DiskHlocError, match="other settings") as error:
        run.main(mine, tmp_path / "out", conf(), device="cpu")
    assert one_line_error(error, tmp_path / "out", "--overwrite")


def test_a_folder_of_photos_alone_says_what_to_do(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError) as error:
        run.main(photos, tmp_path, settings(), device="cpu")
    assert one_line_error(error, photos, "--warped")


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(DiskHlocError) as error:
        run.main(tmp_path, tmp_path / "out", conf(), device="cpu")
    assert one_line_error(error, tmp_path / "broken.jpg")
