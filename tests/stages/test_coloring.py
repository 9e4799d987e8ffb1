"""Points get the colours of the pixels that show them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from disk_hloc.stages import coloring

pytestmark = pytest.mark.skipif(
    not hasattr(pycolmap, "SyntheticDatasetOptions"), reason="this pycolmap draws no models"
)

HALVES = np.array([(200, 40, 40), (40, 40, 200)])


@pytest.fixture(params=[(1024, 768), (2048, 1536)])
def model(request: pytest.FixtureRequest) -> pycolmap.Reconstruction:
    """A model of photos of two sizes; the larger ones are decoded at half their size."""
    pycolmap.set_random_seed(0)
    width, height = request.param
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=3, num_points3D=100,
        camera_width=width, camera_height=height,
        camera_params=[1.2 * width, width / 2, height / 2, 0.0],
    )  # fmt: skip
    drawn = pycolmap.synthesize_dataset(options)
    for point in drawn.points3D.values():
        point.color = [0, 0, 0]
    return drawn


@pytest.fixture
def photos(model: pycolmap.Reconstruction, tmp_path: Path) -> Path:
    """Photos that are red on the left and blue on the right."""
    camera = next(iter(model.cameras.values()))
    pixels = np.zeros((camera.height, camera.width, 3), np.uint8)
    pixels[:, : camera.width // 2], pixels[:, camera.width // 2 :] = HALVES
    for image in model.images.values():
        path = tmp_path / "photos" / Path(image.name).with_suffix(".jpg")
        image.name = path.relative_to(tmp_path / "photos").as_posix()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=95)
    return tmp_path / "photos"


def seen_by(model: pycolmap.Reconstruction, point: pycolmap.Point3D, image_id: int) -> int | None:
    """Which half of a photo shows a point; None if it is not seen, or near the middle."""
    for element in point.track.elements:
        if element.image_id == image_id:
            camera = model.cameras[model.images[image_id].camera_id]
            x = model.images[image_id].points2D[element.point2D_idx].xy[0] - camera.width / 2
            return None if abs(x) < 16 else int(x > 0)
    return None


def test_the_colour_is_that_of_the_first_observation(
    model: pycolmap.Reconstruction, photos: Path
) -> None:
    coloring.main(model, photos)
    checked = 0
    for point in model.points3D.values():
        half = seen_by(model, point, point.track.elements[0].image_id)
        if half is not None:
            np.testing.assert_allclose(point.color, HALVES[half], atol=8)
            checked += 1
    assert checked > 50


def test_colours_stay(model: pycolmap.Reconstruction, photos: Path) -> None:
    first = next(iter(model.points3D.values()))
    first.color = [1, 2, 3]
    coloring.main(model, photos)
    assert first.color.tolist() == [1, 2, 3]


def test_only_some_photos(model: pycolmap.Reconstruction, photos: Path) -> None:
    chosen = max(model.images)
    coloring.main(model, photos, {model.images[chosen].name})
    halves = [seen_by(model, point, chosen) for point in model.points3D.values()]
    for point, half in zip(model.points3D.values(), halves, strict=True):
        if half is not None:
            np.testing.assert_allclose(point.color, HALVES[half], atol=8)
    unseen = [
        point.color.tolist()
        for point in model.points3D.values()
        if chosen not in {element.image_id for element in point.track.elements}
    ]
    assert all(color == [0, 0, 0] for color in unseen)


def test_a_photo_that_cannot_be_read(
    model: pycolmap.Reconstruction, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = model.images[min(model.images)]
    (photos / broken.name).write_text("no photo")
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        coloring.main(model, photos)
    assert f"{broken.name} (" in caplog.text
    for point in model.points3D.values():
        is_black = not point.color.any()
        assert is_black == (point.track.elements[0].image_id == broken.image_id)
