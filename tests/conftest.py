"""Fixtures: the shared photos, and small rendered scenes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from support.shared import build_once

if not torch.cuda.is_available():
    # Triton reads this when it is imported: without a GPU its kernels are interpreted.
    os.environ["TRITON_INTERPRET"] = "1"

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sequences",
        type=int,
        default=10,
        help="how many sequences tests/test_changing_input.py tries (default 10)",
    )
    parser.addoption(
        "--kills", type=int, default=24, help="how often tests/test_kills.py kills (default 24)"
    )


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real photos next to the checkout; without it, tests are skipped (not in CI)."""
    if not DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the photos of {DATA} are missing")
        pytest.skip(f"needs the photos of {DATA}")
    return DATA


@pytest.fixture(scope="session")
def sacre_coeur(data: Path) -> Path:
    """10 internet photos of one building, about 1000 px wide."""
    return data / "sacre_coeur" / "images"


@pytest.fixture(scope="session")
def official(data: Path) -> Path:
    """Results of DISK's scripts on Sacre Coeur: --height 768 --width 1024 --n 2048; --rt 0.95."""
    return data / "disk_official" / "sacre_coeur_768x1024_n2048"


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered room: images/ (5 photos of 512 x 384), camera.txt, poses.txt."""
    from disk_hloc.synthetic_room import camera_path, write_scene

    def draw(folder: Path) -> None:
        write_scene(folder, size=(512, 384), cam_from_world=camera_path(12)[2:11:2])

    return build_once(tmp_path_factory, "scene", draw)


@pytest.fixture(scope="session")
def matched_scene(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``reconstruct --extractor disk-2k`` has of the room before it builds a model."""
    from disk_hloc.pipelines import matching

    def match(folder: Path) -> None:
        matching.main(scene / "images", folder, extractor="disk-2k")

    return build_once(tmp_path_factory, "matched_scene", match)


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``dataset.json`` of two rendered scenes with three photos of 64 x 48 and three pairs."""
    from support.drawn_set import write_set

    return write_set(tmp_path_factory.mktemp("training_set"), num_scenes=2)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training data set: one rendered room in train/, 6 photos of 192 x 144."""
    from disk_hloc.dataset import synthetic

    folder = tmp_path_factory.mktemp("drawn")
    return synthetic.main(
        folder, scenes=1, validation_scenes=0, photos=6, image_size=(192, 144), within=(0.4, 0.9)
    )


@pytest.fixture(scope="session")
def fountain_map(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of the 8 database photos of mini_aachen, in metres; copy it before you change it."""
    from support.maps import build_fountain

    def build(folder: Path) -> None:
        build_fountain(data / "mini_aachen", folder / "fountain")

    return build_once(tmp_path_factory, "maps", build) / "fountain"


@pytest.fixture(scope="session")
def aachen_features(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the features of all photos of mini_aachen, by the conf `disk`."""
    from disk_hloc import confs
    from disk_hloc.stages import extract

    conf = confs.extractors()["disk"]

    def describe(folder: Path) -> None:
        images = data / "mini_aachen" / "images_upright"
        extract.main(conf, images, folder / f"{conf['output']}.h5")

    return build_once(tmp_path_factory, "aachen_features", describe)
