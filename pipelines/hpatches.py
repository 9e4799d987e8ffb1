"""HPatches: from its photos to curves, beside those that others published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.eval import descriptors, hpatches, published
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.plugin import find_conf
from disk_hloc.report import tables as report
from disk_hloc.stages import extract, match

NOTE = (
    "MMA: share of matches within 1/3/5 px, mean of all pairs, of those of changing light and of "
    "changing viewpoint. Homography: area under the share of corner errors up to 1/3/5 px. "
    "Repeatability within 3 px. PCK: random positions found again by their descriptors within "
    "5 px. Keypoints are means of an image, matches means of a pair. Rows with MMA alone are "
    "published results."
)
_SHOWN = (1, 3, 5)


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
) -> dict[str, Any]:
    """Evaluate features and matches, and set them beside published results.

    Predictions are kept in ``output/predictions``, so that only figures are computed anew.

    Args:
        folder: HPatches' sequences; None reads caches alone.
        output: gets ``results.json``, ``results.md``, ``results.png``, ``results.svg``.
        extractor: a conf of configs/extractors.yaml, of hloc's, or a yaml file.
        matcher: likewise of configs/matchers.yaml.
        features: evaluate this hloc features file instead of extracting.
        matches: evaluate this hloc matches file instead of matching.
        caches: published results (:mod:`disk_hloc.eval.published`); their files' names without
            the suffix are those of their curves.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        What ``results.json`` holds: ``thresholds`` in pixels, and ``methods``: name -> figures of
        :func:`disk_hloc.eval.hpatches.evaluate`, with ``descriptor_pck`` where the extractor can
        describe any position and took part.

    Raises:
        DiskHlocError: neither a folder nor a cache, a broken data set or cache, or what a stage
            says.
    """
    if folder is None and not caches:
        raise DiskHlocError("nothing to evaluate: give the folder of HPatches, or --cache files")
    if matches is not None and features is None:
        raise DiskHlocError("--matches refers to features: give them with --features")
    methods: dict[str, Any] = {}
    if folder is not None:
        name = f"{_stem(extractor)}+{_stem(matcher)}"
        if features is not None:
            name = features.stem if matches is None else matches.stem
        methods[name] = _evaluate(folder, output, extractor, matcher, features, matches, device)
    measured = set(methods)
    for cache in caches:
        if cache.stem in methods:
            raise DiskHlocError(f"two results are called {cache.stem}: rename {cache}")
        methods[cache.stem] = published.read(cache)
    results = {"thresholds": list(hpatches.THRESHOLDS), "methods": methods}
    report.write(output, "HPatches", results, table(methods), NOTE)
    panels: dict[str, dict[str, report.Curve]] = {}
    for kind in (*hpatches.KINDS, "all"):
        curves: dict[str, report.Curve] = {
            name: (hpatches.THRESHOLDS, figures["mma"][kind], name in measured)
            for name, figures in methods.items()
            if kind in figures["mma"]
        }
        if curves:
            panels[kind] = curves
    report.plot(output, panels, "threshold (px)", "MMA")
    return results


def table(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Cells of the results, a heading first."""
    heading = ["method", "keypoints", "matches", "MMA", "light", "viewpoint"]
    lines = [
        [
            name,
            f"{figures['keypoints']:.0f}",
            f"{figures['matches']:.0f}",
            *(_mma(figures, kind) for kind in ("all", *hpatches.KINDS)),
        ]
        for name, figures in methods.items()
    ]
    if any("homography_auc" in figures for figures in methods.values()):
        heading += ["homography", "repeated", "PCK"]
        for line, figures in zip(lines, methods.values(), strict=True):
            areas = figures.get("homography_auc", {}).get("all", {}).values()
            line.append("/".join(f"{value:.3f}" for value in areas))
            for key in ("repeatability", "descriptor_pck"):
                value = figures.get(key, {}).get("all")
                line.append("" if value is None else f"{value:.3f}")
    return [heading, *lines]


def _evaluate(
    folder: Path,
    output: Path,
    extractor: str,
    matcher: str,
    features: Path | None,
    matches: Path | None,
    device: str,
) -> dict[str, Any]:
    homographies = hpatches.read_scenes(folder)
    kept = output / "predictions"
    extractor_conf: dict[str, Any] | None = None
    if features is None:
        extractor_conf = find_conf("extractors", extractor)
        features = kept / f"{_stem(extractor)}.h5"
        # Named one by one, since folders of photos are not searched for .ppm.
        names = kept / "images.txt"
        kept.mkdir(parents=True, exist_ok=True)
        listed = sorted({name for pair in homographies for name in pair})
        names.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
        extract.main(
            extractor_conf, folder, features, image_list=names, device=device, on_error="stop"
        )
    if matches is None:
        pairs_path = kept / "pairs.txt"
        write_pairs(pairs_path, homographies)
        matches = kept / f"{features.stem}+{_stem(matcher)}.h5"
        matcher_conf = find_conf("matchers", matcher)
        match.main(matcher_conf, pairs_path, features, matches, device=device)
    figures = hpatches.evaluate(features, matches, homographies)
    if extractor_conf is not None and descriptors.applies_to(extractor_conf):
        path = kept / f"{_stem(extractor)}-positions.h5"
        descriptors.describe(extractor_conf, folder, homographies, path, device=device)
        figures["descriptor_pck"] = descriptors.evaluate(path, homographies)
    return figures


def _mma(figures: Mapping[str, Any], kind: str) -> str:
    if kind not in figures["mma"]:
        return ""
    shares = np.array(figures["mma"][kind])[[hpatches.THRESHOLDS.index(t) for t in _SHOWN]]
    return "/".join(f"{value:.3f}" for value in shares)


def _stem(conf: str) -> str:
    return Path(conf).stem if conf.endswith((".yaml", ".yml")) else conf.replace("/", "_")
