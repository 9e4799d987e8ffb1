"""A small map."""

from __future__ import annotations

import shutil
from pathlib import Path

from disk_hloc.pipelines import map_build

# Of the queries of mini_aachen, 1024 x 683 pixels.
CAMERA = "PINHOLE 919.826667,921.386667,507.063333,335.770000"
QUERIES = (
    "query/day/nexus4/0002.jpg",
    "query/day/nexus4/0006.jpg",
    "query/night/nexus5x/0008.jpg",
)
# Smaller photos than the conf `disk` has, for speed.
_EXTRACTOR = """output: feats-small
model: {name: disk, max_keypoints: 2048}
preprocessing: {resize_max: 800}
"""


def build_fountain(dataset: Path, output: Path) -> Path:
    """Build the map of mini_aachen's database photos in their known poses; return its folder."""
    conf = output.with_suffix(".yaml")
    conf.write_text(_EXTRACTOR)
    map_build.main(
        dataset / "3D-models" / "aachen_v_1_1",
        output,
        images=dataset / "images_upright",
        extractor=str(conf),
        num_covis=5,
        device="cpu",
    )
    return output


def copy_map(source: Path, target: Path) -> Path:
    """Copy a map that is to be changed."""
    return Path(shutil.copytree(source, target))
