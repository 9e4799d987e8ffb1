"""A conf that is fast, for tests in which the quality of the features does not matter."""

from __future__ import annotations

from pathlib import Path


def write_sift(folder: Path, max_keypoints: int = 400) -> str:
    """Write the conf of an extractor without a network, and of few keypoints; return its path."""
    path = folder / "few.yaml"
    path.write_text(
        f"output: few\nmodel: {{name: opencv_sift, max_keypoints: {max_keypoints}}}\n"
        "preprocessing: {grayscale: true, resize_max: 512}\n"
    )
    return str(path)
