"""Measure the speed of matching pairs, compared with hloc's nearest_neighbor, from file to file.

    python benchmarks/match.py [--photos DIR] [--rounds 3] [--json OUT]

All pairs of Sacre Coeur are matched with 5,000 keypoints and mutual nearest neighbours. hloc's
``match_features`` is included if hloc is installed. The bare product is one float32 matrix product
per pair, and nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import report
import torch

from disk_hloc import plugin
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.plugin import find_conf
from disk_hloc.stages import extract, match


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features, pairs = folder / "features.h5", folder / "pairs.txt"
        extract.main(find_conf("extractors", "disk"), args.photos, features)
        with h5py.File(features) as file:
            descriptors = [
                torch.from_numpy(file[image]["descriptors"][()]).float() for image in sorted(file)
            ]
            listed = list(combinations(sorted(file), 2))
        write_pairs(pairs, listed)
        conf = find_conf("matchers", "disk")
        runs = {
            "ours": lambda: match.main(conf, pairs, features, folder / "ours.h5", overwrite=True),
            "product": lambda: [a.T @ b for a, b in combinations(descriptors, 2)],
        }
        if plugin.find_provider():
            hloc = plugin.hloc_module("match_features")
            runs["hloc"] = lambda: hloc.main(
                hloc.confs["NN-mutual"], pairs, features, matches=folder / "hloc.h5", overwrite=True
            )
        seconds = report.medians(report.alternate(runs, args.rounds))
        figures = {f"{name}: pairs per second": len(listed) / s for name, s in seconds.items()}
        figures["time over a bare product"] = seconds["ours"] / seconds["product"]
        if "hloc" in seconds:
            figures["times as fast as hloc"] = seconds["hloc"] / seconds["ours"]
            with h5py.File(folder / "ours.h5") as mine, h5py.File(folder / "hloc.h5") as theirs:
                same = [
                    np.array_equal(read_matches(mine, *pair), read_matches(theirs, *pair))
                    for pair in listed
                ]
            figures["pairs with the very same matches"] = sum(same)
        report.write(args.json, figures)


if __name__ == "__main__":
    main()
