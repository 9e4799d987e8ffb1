"""LighterGlue: a small LightGlue with the weights that were trained on XFeat."""

from __future__ import annotations

from typing import Any, ClassVar

from ..lightglue.matcher import DEFAULTS, LightGlue


class XFeatLighterGlue(LightGlue):
    """Matches XFeat's features.

    See :class:`disk_hloc.models.lightglue.matcher.LightGlue` for the conf.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "xfeat_lighterglue",
        **DEFAULTS,
        "depth_confidence": -1,
        "width_confidence": 0.95,
    }
    features: ClassVar[str] = "XFeat"
    architecture: ClassVar[dict[str, int]] = {
        "input_dim": 64,
        "descriptor_dim": 96,
        "n_layers": 6,
        "num_heads": 1,
    }
    # Its checkpoint holds the extractor, too.
    prefix: ClassVar[str] = "matcher."
