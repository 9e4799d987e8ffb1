"""Measure the time from photos to a model: ours, hloc with its own DISK, COLMAP with SIFT.

    python benchmarks/end_to_end.py [--photos DIR] [--rounds 2] [--json OUT]

All use their default settings and all pairs of photos, and start from scratch in each round. hloc
is included if it is installed and kornia has its weights or can download them.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import tempfile
from itertools import combinations
from pathlib import Path

import report
import yaml

from disk_hloc import plugin
from disk_hloc.device import has_fast_bfloat16
from disk_hloc.eval.model import summarize
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.images import list_images
from disk_hloc.pipelines import sfm
from disk_hloc.plugin import find_conf

import pycolmap  # isort: skip  (after disk_hloc, as the README says)

PRECISIONS = ("float32", "bfloat16") if has_fast_bfloat16() else ("float32",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=report.PHOTOS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    models: dict[str, pycolmap.Reconstruction] = {}
    with tempfile.TemporaryDirectory() as folder:
        peers = {"sift": with_sift}
        if plugin.find_provider():
            peers = {"hloc": with_hloc} | peers
        builders = {f"ours, {name}": ours(name, Path(folder)) for name in PRECISIONS} | peers

        def run(name: str) -> None:
            output = Path(folder) / "output"
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir()
            models[name] = builders[name](args.photos, output)

        runs = {name: lambda name=name: run(name) for name in builders}
        seconds = report.medians(report.alternate(runs, args.rounds))
    figures: dict[str, float] = {}
    for name, model in models.items():
        figures[f"{name}: seconds"] = seconds[name]
        summary = summarize(model, len(list_images(args.photos)))
        for key in ("registered", "points3D", "mean_track_length", "mean_reprojection_error"):
            figures[f"{name}: {key}"] = summary[key]
    for precision in PRECISIONS:
        for peer in peers:
            share = seconds[f"ours, {precision}"] / seconds[peer]
            figures[f"ours, {precision}: share of the time of {peer}"] = share
    report.write(args.json, figures)


def ours(precision: str, folder: Path):
    """Return a function that runs our pipeline with a precision of the network."""
    conf = find_conf("extractors", "disk")
    conf["model"]["precision"] = precision
    extractor = folder / f"{precision}.yaml"
    extractor.write_text(yaml.safe_dump(conf))

    def build(photos: Path, output: Path) -> pycolmap.Reconstruction:
        sfm.main(photos, output, extractor=str(extractor), engine="native")
        return pycolmap.Reconstruction(output / "sfm")

    return build


def with_hloc(photos: Path, output: Path) -> pycolmap.Reconstruction:
    """Run hloc's functions as its own scripts do; our DISK is not registered in this process."""
    provider = plugin.import_provider().__name__
    extract, match, reconstruction = (
        importlib.import_module(f"{provider}.{name}")
        for name in ("extract_features", "match_features", "reconstruction")
    )
    features = extract.main(extract.confs["disk"], photos, feature_path=output / "features.h5")
    pairs, matches = output / "pairs.txt", output / "matches.h5"
    write_pairs(pairs, list(combinations(list_images(photos), 2)))
    match.main(match.confs["NN-mutual"], pairs, features, matches=matches)
    return reconstruction.main(output / "sfm", photos, pairs, features, matches)


def with_sift(photos: Path, output: Path) -> pycolmap.Reconstruction:
    """Run COLMAP alone."""
    database = output / "database.db"
    pycolmap.extract_features(database, photos)
    pycolmap.match_exhaustive(database)
    models = pycolmap.incremental_mapping(database, photos, output)
    return max(models.values(), key=lambda model: model.num_reg_images())


if __name__ == "__main__":
    main()
