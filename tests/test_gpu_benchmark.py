"""What ``make gpu`` measures, on the CPU in small sizes, so that it runs when a GPU is at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTIONS = ("machine", "extraction", "files", "matching", "lightglue", "memory", "training")


def test_every_section_runs(sacre_coeur: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted(sacre_coeur.iterdir())[:2]:
        (photos / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [
            sys.executable, "benchmarks/gpu.py", "--photos", str(photos), "--json", str(out),
            "--profile", str(tmp_path / "profile"), "--only", *SECTIONS,
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures["failed"] == []
    assert {key.partition(":")[0] for key in figures} >= set(SECTIONS)
    assert figures["extraction: 256x192, float32: keypoints as the CPU's, worst photo"] == 1
    assert len(list((tmp_path / "profile").iterdir())) == 3
