"""HPatches: from its photos to curves, side by side with published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from disk_hloc import parallel
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import descriptors, hpatches, published
from disk_hloc.eval.hpatches_table import NOTE, table
from disk_hloc.eval.planes import THRESHOLDS_PX
from disk_hloc.io.benchmarks.hpatches import KINDS, read_scenes
from disk_hloc.io.conf_files import conf_stem
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.output_folder import one_run
from disk_hloc.plugin import find_conf
from disk_hloc.report import tables
from disk_hloc.report.plots import Curve, plot
from disk_hloc.stages import extract, match


@one_run("output", "folder")
def main(
    folder: Path | None,
    output: Path,
    *,
    extractor: str = "disk-2k",
    matcher: str = "disk",
    features: Path | None = None,
    matches: Path | None = None,
    caches: Sequence[Path] = (),
    device: str = "auto",
    dask: str | None = None,
) -> dict[str, Any]:
    """Evaluate features and matches, and compare them with published results.

    Predictions are kept in ``output/predictions``; only the figures are computed again.

    Args:
        folder: HPatches' sequences; None reads caches only.
        output: gets ``results.json``, ``results.md``, ``results.png``, ``results.svg``.
        extractor: a conf of configs/extractors.yaml, of hloc's, or a yaml file.
        matcher: likewise, of configs/matchers.yaml.
        features: evaluate this hloc features file instead of extracting.
        matches: evaluate this hloc matches file instead of matching.
        caches: published results (:mod:`disk_hloc.eval.published`); a file's name without the
            suffix is the name of its curve.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.

    Returns:
        What ``results.json`` holds: ``thresholds`` in pixels, and ``methods``: name -> figures of
        :func:`disk_hloc.eval.hpatches.evaluate`, with ``descriptor_pck`` where the extractor can
        describe any position and took part.

    Raises:
        DiskHlocError: neither a folder nor a cache is given, a data set or cache is broken, or as
            the stages.
    """
    if folder is None and not caches:
        raise DiskHlocError(
            "nothing to evaluate: give the folder of HPatches, or files with --cache"
        )
    if matches is not None and features is None:
        raise DiskHlocError("--matches refers to features: give them with --features")
    methods: dict[str, Any] = {}
    if folder is not None:
        name = f"{conf_stem(extractor)}+{conf_stem(matcher)}"
        if features is not None:
            name = features.stem if matches is None else matches.stem
        methods[name] = _evaluate(
            folder, output, extractor, matcher, features, matches, device, dask
        )
    measured = set(methods)
    for cache in caches:
        if cache.stem in methods:
            raise DiskHlocError(f"two results are called {cache.stem}: rename {cache}")
        methods[cache.stem] = published.read(cache)
    results = {"thresholds": list(THRESHOLDS_PX), "methods": methods}
    tables.write(output, "HPatches", results, table(methods), NOTE)
    panels: dict[str, dict[str, Curve]] = {}
    for kind in (*KINDS, "all"):
        curves: dict[str, Curve] = {
            name: (THRESHOLDS_PX, figures["mma"][kind], name in measured)
            for name, figures in methods.items()
            if kind in figures["mma"]
        }
        if curves:
            panels[kind] = curves
    plot(output, panels, "threshold (px)", "MMA")
    return results


def _evaluate(
    folder: Path,
    output: Path,
    extractor: str,
    matcher: str,
    features: Path | None,
    matches: Path | None,
    device: str,
    dask: str | None,
) -> dict[str, Any]:
    homographies = read_scenes(folder)
    kept = output / "predictions"
    extractor_conf: dict[str, Any] | None = None
    if features is None:
        extractor_conf = find_conf("extractors", extractor)
        features = kept / f"{conf_stem(extractor)}.h5"
        # Listed, since folders are not searched for .ppm files.
        names = kept / "images.txt"
        kept.mkdir(parents=True, exist_ok=True)
        listed = sorted({name for pair in homographies for name in pair})
        names.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
        extraction = extract.work(
            extractor_conf, folder, features, image_list=names, on_error="stop"
        )
        parallel.run(extraction, dask, device=device)
    if matches is None:
        pairs_path = kept / "pairs.txt"
        write_pairs(pairs_path, homographies)
        matches = kept / f"{features.stem}+{conf_stem(matcher)}.h5"
        matcher_conf = find_conf("matchers", matcher)
        parallel.run(match.work(matcher_conf, pairs_path, features, matches), dask, device=device)
    figures = hpatches.evaluate(features, matches, homographies)
    if extractor_conf is not None and descriptors.applies_to(extractor_conf):
        path = kept / f"{conf_stem(extractor)}-positions.h5"
        descriptors.describe(extractor_conf, folder, homographies, path, device=device)
        figures["descriptor_pck"] = descriptors.evaluate(path, homographies)
    return figures
