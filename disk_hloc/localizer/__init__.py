"""Where a photo was taken, asked of a map that is in memory."""

from .localizer import Localizer
from .result import Localization, Retrieved, RigLocalization

__all__ = ["Localization", "Localizer", "Retrieved", "RigLocalization"]
