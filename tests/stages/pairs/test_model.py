"""Pairs of the images of a model."""

from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.stages import pairs


@pytest.fixture(scope="session")
def model_path(data: Path) -> Path:
    """Eight images in a row around a fountain."""
    return data / "mini_aachen" / "3D-models" / "aachen_v_1_1"


def lines(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in path.read_text().splitlines()]


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
