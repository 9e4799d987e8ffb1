"""The table of results on HPatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from disk_hloc.io.benchmarks.hpatches import KINDS

from .planes import THRESHOLDS_PX

NOTE = (
    "MMA: share of matches within 1/3/5 px, mean of all pairs, of those with changing light and "
    "of those with changing viewpoint. Score: PoSFeat's MMAscore of the same, a mean over 1 to "
    "10 px in which t px has the weight 2 - t/10. Homography: area under the share of corner "
    "errors up to 1/3/5 px. Repeatability within 3 px. PCK: random positions found again by their "
    "descriptors within 5 px. Keypoints are means of an image, matches means of a pair. Rows with "
    "MMA alone are published results."
)
# Of the MMA, in pixels.
_SHOWN_PX = (1, 3, 5)


def table(methods: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of the table, a heading first.

    Args:
        methods: name -> figures (:func:`disk_hloc.eval.hpatches.evaluate`, or published ones).
    """
    heading = ["method", "keypoints", "matches", "MMA", "light", "viewpoint", "score"]
    lines = [
        [
            name,
            f"{figures['keypoints']:.0f}",
            f"{figures['matches']:.0f}",
            *(_mma(figures, kind) for kind in ("all", *KINDS)),
            _scores(figures),
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


def _mma(figures: Mapping[str, Any], kind: str) -> str:
    if kind not in figures["mma"]:
        return ""
    shares = np.array(figures["mma"][kind])[[THRESHOLDS_PX.index(t) for t in _SHOWN_PX]]
    return "/".join(f"{value:.3f}" for value in shares)


def _scores(figures: Mapping[str, Any]) -> str:
    """Return the MMA scores of all pairs, and of each kind of scene that there is."""
    scores = figures["mma_score"]
    return "/".join(f"{scores[kind]:.3f}" for kind in ("all", *KINDS) if kind in scores)
