"""Which models are built of a database, and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from disk_hloc.stages import mapping

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap, "SyntheticDatasetOptions"), reason="this pycolmap draws no models"
)


def draw_places(path: Path, sizes: tuple[int, int]) -> None:
    """Write a database of two places that share nothing, with exact verified matches."""
    for place, size in enumerate(sizes):
        drawn = path.with_name(f"{place}.db")
        pycolmap.set_random_seed(place)
        with pycolmap.Database.open(drawn) as database:
            options = pycolmap.SyntheticDatasetOptions(
                num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=size, num_points3D=200
            )
            pycolmap.synthesize_dataset(options, database)
            for image in database.read_all_images():
                image.name = f"{place}_{image.image_id}.jpg"
                database.update_image(image)
    parts = [path.with_name(f"{place}.db") for place in (0, 1)]
    with (
        pycolmap.Database.open(parts[0]) as first,
        pycolmap.Database.open(parts[1]) as second,
        pycolmap.Database.open(path) as merged,
    ):
        pycolmap.Database.merge(first, second, merged)


def test_each_place_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    draw_places(path, (6, 4))
    models = mapping.incremental(path, tmp_path / "models", fix_intrinsics=False)
    names = [sorted(image.name for image in model.images.values()) for model in models]
    assert names == [[f"0_{i}.jpg" for i in range(1, 7)], [f"1_{i}.jpg" for i in range(1, 5)]]
    assert all(np.isfinite(model.compute_mean_reprojection_error()) for model in models)
    # Of each place one attempt was enough.
    assert [folder.name for folder in (tmp_path / "models").iterdir()] == ["0"]


def test_two_photos_are_a_model(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    draw_places(path, (2, 2))
    models = mapping.incremental(path, tmp_path / "models", fix_intrinsics=False)
    assert sorted(model.num_reg_images() for model in models) == [2, 2]
