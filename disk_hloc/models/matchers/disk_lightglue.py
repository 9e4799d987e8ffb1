"""LightGlue with the weights that were trained on DISK."""

from __future__ import annotations

from typing import Any, ClassVar

from ..lightglue.matcher import DEFAULTS, LightGlue


class DiskLightGlue(LightGlue):
    """Matches DISK's features.

    See :class:`disk_hloc.models.lightglue.matcher.LightGlue` for the conf.
    """

    default_conf: ClassVar[dict[str, Any]] = {"weights": "disk_lightglue", **DEFAULTS}
    features: ClassVar[str] = "DISK"
    architecture: ClassVar[dict[str, int]] = {"input_dim": 128}
