"""From photos or a model to a pairs file: which images are matched with which.

A method is a function that returns pairs, with an entry in :data:`METHODS`:
:mod:`.names` (all pairs, and sequences), :mod:`.retrieval` (images that look alike), :mod:`.gps`
(photos taken near each other), :mod:`.auto` (which of these), and :mod:`.model` (of a COLMAP
model).
"""

from .choice import check_choice, choose
from .photos import Photos
from .registry import METHODS, main

__all__ = ["METHODS", "Photos", "check_choice", "choose", "main"]
