"""The training reads the data sets that the tools write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from disk_hloc.dataset import from_colmap
from disk_hloc.io.training.dataset import read_training_image, read_training_set
from support.training_data import SIZE, read_views, write_model


def test_the_training_reads_a_rendered_data_set(drawn: Path) -> None:
    (scene,) = read_training_set(drawn / "train")
    assert scene.tuples.shape[1] == 3
    for i, view in enumerate(read_views(drawn / "train" / "dataset.json")):
        read = read_training_image(scene, i, SIZE)
        # The training has (0, 0) at the centre of the first pixel.
        np.testing.assert_allclose(read.matrix[:2, 2], view.matrix[:2, 2] - 0.5)
        np.testing.assert_allclose(np.diag(read.matrix), np.diag(view.matrix))
        np.testing.assert_allclose(read.rotation, view.rotation, atol=1e-9)
        np.testing.assert_allclose(read.translation, view.translation, atol=1e-9)
        np.testing.assert_array_equal(read.depth, view.depth)


def test_the_training_reads_photos_in_folders(drawn: Path, tmp_path: Path) -> None:
    model = write_model(
        drawn, tmp_path / "model", f"SIMPLE_RADIAL {SIZE[0]} {SIZE[1]} 140 96 72 -0.1"
    )
    text = (model / "images.txt").read_text()
    (tmp_path / "photos" / "a" / "b").mkdir(parents=True)
    for path in (drawn / "train" / "train_0000" / "images").iterdir():
        text = text.replace(f" {path.name}", f" a/b/{path.name}")
        (tmp_path / "photos" / "a" / "b" / path.name).write_bytes(path.read_bytes())
    (model / "images.txt").write_text(text)
    target = from_colmap.main(
        model, tmp_path / "photos", tmp_path / "out", with_depth=False, within=(0.01, 1.0)
    )
    (entry,) = json.loads(target.read_text()).values()
    assert entry["images"] == [f"a/b/{i:04d}.jpg" for i in range(6)]
    (scene,) = read_training_set(tmp_path / "out", depth=False)
    for i in range(6):
        assert read_training_image(scene, i, (96, 96)).image.max() > 0.2
