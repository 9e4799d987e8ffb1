"""A model in a notebook."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pycolmap

from disk_hloc.io import colmap
from disk_hloc.io.model_folders import find_model

from .figure import figure


def view(model: pycolmap.Reconstruction | Path | str) -> go.Figure:
    """Draw a model, or that of a folder; see :func:`disk_hloc.view`."""
    if isinstance(model, (str, Path)):
        model = colmap.read_model(find_model(Path(model)))
    return figure(model)
