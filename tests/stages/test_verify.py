"""Which pairs pass the test of chance, and what COLMAP makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.io.colmap import create_database, import_features_and_matches
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match, verify
from support.hloc_files import write_features, write_matches

NAMES = ["0000.jpg", "0001.jpg", "0002.jpg"]


def two_views(
    num: int, rng: np.random.Generator, is_plane: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of points of space in two photos of 1000 x 750 px."""
    points = rng.uniform((-2, -1.5, 4), (2, 1.5, 4 if is_plane else 8), (num, 3))
    moved = points @ np.array([[0.98, 0, -0.2], [0, 1, 0], [0.2, 0, 0.98]]).T + (0.8, 0.1, 0.2)
    return tuple(1000 * p[:, :2] / p[:, 2:] + (500, 375) for p in (points, moved))


@given(st.integers(0, 2**32 - 1), st.integers(20, 700), st.booleans())
@settings(max_examples=25, deadline=None)
def test_matches_of_chance_do_not_agree(seed: int, num: int, best_first: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, (1000, 750), (2, num, 2))
    assert not verify.agreement(*points, best_first=best_first).is_sound


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_few_true_matches_among_many_are_found(seed: int, percent: int) -> None:
    """60 true matches and up to 800 false ones, where true ones have higher scores, mostly."""
    rng = np.random.default_rng(seed)
    true = two_views(60, rng)
    false = rng.uniform(0, (1000, 750), (2, 20 * percent + 200, 2))
    scores = np.concatenate([rng.normal(2, 1, 60), rng.normal(0, 1, false.shape[1])])
    order = np.argsort(-scores)
    points = [np.concatenate(both)[order] for both in zip(true, false, strict=True)]
    found = verify.agreement(*points, best_first=True)
    assert found.is_sound
    assert (found.errors[order < 60] < verify.MAX_ERROR_PX).mean() > 0.9


def test_degenerate_matches_do_not_agree() -> None:
    few = np.arange(28.0).reshape(14, 2)
    same = np.full((100, 2), 7.0)
    line = np.stack([np.arange(100.0), np.arange(100.0)], axis=1)
    for points in (few, same, np.zeros((0, 2))):
        assert not verify.agreement(points, points, best_first=True).is_sound
    verify.agreement(line, line[::-1], best_first=True)  # no error, whatever it says


def write_scene(folder: Path, scene: Path, names: list[str]) -> dict[str, int]:
    """Write a database of points of space seen by the drawn scene's cameras: a-b and b-c match."""
    rng = np.random.default_rng(0)
    model, _, _, (fx, fy, cx, cy) = read_camera(scene / "camera.txt")
    poses = read_poses(scene / "poses.txt")
    axes = np.array([poses[name].rotation[2] for name in NAMES])
    focus = np.mean([poses[name].center for name in NAMES], axis=0) + 3 * axes.mean(axis=0)
    points = focus + rng.uniform(-0.7, 0.7, (200, 3))
    for name, source in zip(names, NAMES, strict=True):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scene / "images" / source, folder / "images" / name)
        seen = points @ poses[source].rotation.T + poses[source].translation
        # COLMAP's principal point is measured from the corner, hloc's keypoints from the centre.
        pixels = seen[:, :2] / seen[:, 2:] * (fx, fy) + (cx - 0.5, cy - 0.5)
        arrays = {"keypoints": pixels.astype(np.float32), "image_size": np.array([512, 384])}
        write_features(folder / "features.h5", name, arrays, 1.0)
    a, b, c = names
    true, false = np.arange(200), rng.permutation(200)
    write_matches(folder / "matches.h5", (a, b), true, np.ones(200))
    write_matches(folder / "matches.h5", (c, b), true, np.ones(200))
    write_matches(folder / "matches.h5", (a, c), false, np.ones(200))
    camera = f"{model} {fx},{fy},{cx},{cy}"
    ids = create_database(folder / "database.db", folder / "images", names, "single", camera)
    import_features_and_matches(
        folder / "database.db",
        ids,
        folder / "features.h5",
        [(a, b), (b, c), (a, c)],
        folder / "matches.h5",
    )
    return ids


@pytest.mark.parametrize("names", [NAMES, ["#0.jpg", "a b/1.jpg", "2.jpg"]])
def test_true_matches_are_verified_and_false_ones_are_not(
    tmp_path: Path, scene: Path, names: list[str]
) -> None:
    ids = write_scene(tmp_path, scene, names)
    a, b, c = names
    path = tmp_path / "database.db"
    pairs = [(a, b), (b, c), (a, c)]
    assert verify.main(path, pairs, best_first=True) == 2
    with pycolmap.Database.open(path) as database:
        geometries = [database.read_two_view_geometry(ids[x], ids[y]) for x, y in pairs]
    assert [len(geometry.inlier_matches) for geometry in geometries] == [200, 200, 0]
    # What is verified stays.
    assert verify.main(path, pairs, best_first=True) == 0


def test_the_geometry_is_that_of_colmap(tmp_path: Path, scene: Path) -> None:
    ids = write_scene(tmp_path, scene, NAMES)
    path, copy = tmp_path / "database.db", tmp_path / "copy.db"
    shutil.copy(path, copy)
    pairs = [(NAMES[0], NAMES[1])]
    verify.main(path, pairs, best_first=True)
    (tmp_path / "pairs.txt").write_text(" ".join(pairs[0]))
    options = {"ransac": {"max_num_trials": 20000, "min_inlier_ratio": 0.1, "random_seed": 0}}
    pycolmap.verify_matches(copy, tmp_path / "pairs.txt", options=options)
    found = []
    for database_path in (path, copy):
        with pycolmap.Database.open(database_path) as database:
            found.append(database.read_two_view_geometry(ids[NAMES[0]], ids[NAMES[1]]))
    assert found[0].config == found[1].config
    np.testing.assert_array_equal(found[0].inlier_matches, found[1].inlier_matches)


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
@pytest.mark.parametrize("is_plane", [False, True], ids=["space", "plane"])
def test_a_geometry_of_some_matches_is_that_of_all(known: bool, is_plane: bool) -> None:
    rng = np.random.default_rng(0)
    points = list(two_views(2000, rng, is_plane))
    points[1] = points[1] + rng.normal(0, 0.5, points[1].shape)
    wrong = rng.permutation(2000)[:400]
    points[1][wrong] = rng.uniform(0, (1000, 750), (400, 2))
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", 1000.0, 1000, 750)
    camera.has_prior_focal_length = known
    views = [(camera, one) for one in points]
    matches = np.stack([np.arange(2000)] * 2, axis=1).astype(np.uint32)
    found = verify.verify_pair(*views, matches, best_first=False)
    options = pycolmap.TwoViewGeometryOptions(ransac={"random_seed": 0})
    expected = pycolmap.estimate_two_view_geometry(*views[0], *views[1], matches, options)
    assert found.config == expected.config
    ours, theirs = (set(one.inlier_matches[:, 0].tolist()) for one in (found, expected))
    assert len(ours & theirs) > 0.98 * len(theirs)
    assert len(ours - theirs) < 0.02 * len(theirs)


def test_photos_of_two_places(data: Path, tmp_path: Path) -> None:
    """COLMAP alone accepts such pairs, with dozens of inliers."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for source in ("fountain_p11/images/0003.jpg", "fountain_p11/images/0005.jpg"):
        shutil.copy(data / source, photos)
    for name, source in zip("ab", sorted((data / "sacre_coeur/images").iterdir()), strict=False):
        shutil.copy(source, photos / f"{name}.jpg")
    features, pairs_path, matches = (tmp_path / name for name in ("f.h5", "p.txt", "m.h5"))
    conf = find_conf("extractors", "disk-2k")
    extract.main(conf, photos, features, device="cpu")
    pairs = [
        ("0003.jpg", "0005.jpg"),
        ("a.jpg", "b.jpg"),
        ("0003.jpg", "a.jpg"),
        ("0005.jpg", "b.jpg"),
    ]
    pairs_path.write_text("".join(f"{x} {y}\n" for x, y in pairs))
    match.main(find_conf("matchers", "disk"), pairs_path, features, matches, device="cpu")
    assert verify.sound_pairs(pairs, features, matches) == pairs[:2]
