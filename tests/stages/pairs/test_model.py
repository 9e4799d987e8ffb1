"""The choice of pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.stages import pairs


@pytest.fixture(scope="session")
def model_path(data: Path) -> Path:
    """Eight images in a row around a fountain."""
    return data / "mini_aachen" / "3D-models" / "aachen_v_1_1"


def lines(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in path.read_text().splitlines()]


def test_exhaustive_pairs_of_a_folder(scene: Path, tmp_path: Path) -> None:
    path = pairs.main("exhaustive", scene / "images", tmp_path / "new" / "pairs.txt")
    assert read_pairs(path) == list(combinations([f"{i:04}.jpg" for i in range(5)], 2))


def test_a_single_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    for method in ("exhaustive", "sequential"):
        with pytest.raises(DiskHlocError, match="needs two"):
            pairs.main(method, tmp_path, tmp_path / "pairs.txt")
        assert not (tmp_path / "pairs.txt").exists()


def test_an_unknown_method_is_named_with_the_known_ones(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="known: exhaustive, sequential"):
        pairs.main("psychic", scene / "images", tmp_path / "pairs.txt")


def test_given_pairs_lose_those_of_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a b\nb c\nc d\n")
    path = pairs.given(tmp_path / "mine.txt", tmp_path / "pairs.txt", without=["a"])
    assert read_pairs(path) == [("b", "c"), ("c", "d")]
    with pytest.raises(DiskHlocError, match="all pairs of"):
        pairs.given(tmp_path / "mine.txt", tmp_path / "pairs.txt", without=["b", "c"])


def test_sequential_pairs_have_the_given_overlap(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / f"{i}.jpg").touch()
    path = pairs.main("sequential", tmp_path, tmp_path / "pairs.txt", overlap=2)
    steps = [int(b[0]) - int(a[0]) for a, b in lines(path)]
    assert sorted(steps) == [1] * 9 + [2] * 8
    path = pairs.main("sequential", tmp_path, tmp_path / "pairs.txt", overlap=4, quadratic=True)
    steps = [int(b[0]) - int(a[0]) for a, b in lines(path)]
    assert sorted(set(steps)) == [1, 2, 3, 4, 8]


def test_covisible_pairs_share_the_most_points(model_path: Path, tmp_path: Path) -> None:
    path = pairs.main("covisibility", model_path, tmp_path / "pairs.txt", num_matched=3)
    model = pycolmap.Reconstruction(model_path)
    seen = {
        image.name: {p.point3D_id for p in image.points2D if p.has_point3D()}
        for image in model.images.values()
    }
    chosen: dict[str, list[str]] = {}
    for a, b in lines(path):
        chosen.setdefault(a, []).append(b)
    assert set(chosen) == set(seen)
    for name, others in chosen.items():
        shared = {other: len(seen[name] & seen[other]) for other in set(seen) - {name}}
        counts = [shared[other] for other in others]
        assert counts == sorted(shared.values(), reverse=True)[:3]


def test_pairs_by_poses_are_the_nearest(model_path: Path, tmp_path: Path) -> None:
    path = pairs.main("poses", model_path, tmp_path / "pairs.txt", num_matched=1)
    nearest = dict(lines(path))
    # The photos were taken in the order of their names.
    names = sorted(nearest)
    for i, name in enumerate(names):
        assert abs(names.index(nearest[name]) - i) == 1
    with pytest.raises(DiskHlocError, match="look the same way"):
        pairs.main("poses", model_path, tmp_path / "none.txt", num_matched=1, max_angle=0)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    for method in ("covisibility", "poses"):
        with pytest.raises(DiskHlocError, match="has no COLMAP model"):
            pairs.main(method, tmp_path, tmp_path / "pairs.txt", num_matched=2)


def test_pairs_of_a_pipeline_are_without_the_images_that_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    pairs.choose("exhaustive", ["a", "b", "c", "d"], path, without={"b": "truncated"})
    assert read_pairs(path) == [("a", "c"), ("a", "d"), ("c", "d")]
    mine = tmp_path / "mine.txt"
    mine.write_text("d a\na b\n")
    pairs.choose(str(mine), ["a", "b", "c", "d"], path, without={"b": "truncated"})
    assert read_pairs(path) == [("d", "a")]
    with pytest.raises(DiskHlocError, match=r"all pairs of .*mine"):
        pairs.choose(str(mine), [], path, without={"a": "truncated"})
