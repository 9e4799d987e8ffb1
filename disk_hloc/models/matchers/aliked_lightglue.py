"""LightGlue with the weights that were trained on ALIKED."""

from __future__ import annotations

from typing import Any, ClassVar

from ..lightglue.matcher import DEFAULTS, LightGlue


class AlikedLightGlue(LightGlue):
    """Matches ALIKED's features.

    See :class:`disk_hloc.models.lightglue.matcher.LightGlue` for the conf.
    """

    default_conf: ClassVar[dict[str, Any]] = {"weights": "aliked_lightglue", **DEFAULTS}
    features: ClassVar[str] = "ALIKED"
    architecture: ClassVar[dict[str, int]] = {"input_dim": 128}
