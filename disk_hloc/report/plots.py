"""Plots of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from disk_hloc.io.replace import replaced
from disk_hloc.log import logger

# A curve: x, y, and whether it was measured here.
Curve = tuple[Sequence[float], Sequence[float], bool]


def plot(
    folder: Path, panels: Mapping[str, Mapping[str, Curve]], x_label: str, y_label: str
) -> list[Path]:
    """Draw panels of curves side by side into ``results.png`` and ``results.svg``.

    Args:
        folder: where the files are written; it is created.
        panels: title -> name -> curve, with the same names in each. Curves measured here are drawn
            thick, the others dashed.
        x_label: the label of all x axes.
        y_label: the label of the first y axis.

    Returns:
        The files; without matplotlib an empty list, and a warning is logged.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("No plot is drawn: it needs matplotlib, pip install 'disk_hloc[eval]'")
        return []
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    places = {name: i for i, name in enumerate(names)}
    figure = Figure(figsize=(4 * len(panels) + 3.2, 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    drawn = {}
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, (x, y, measured) in curves.items():
            round_, color = divmod(places[name], 10)
            style = ("--", ":", "-.")[round_ % 3]
            (drawn[name],) = axis.plot(
                x, y, color=colormaps["tab10"](color), linestyle="-" if measured else style,
                linewidth=2.6 if measured else 1.5, zorder=3 if measured else 2,
            )  # fmt: skip
        axis.set_title(title)
        axis.set_xlabel(x_label)
        axis.set_ylim(0, 1)
        axis.margins(x=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(y_label)
    figure.legend([drawn[name] for name in names], names, loc="outside right center", fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "results.png", folder / "results.svg"]
    for path in paths:
        with replaced(path) as partial:
            figure.savefig(partial, dpi=120, format=path.suffix[1:])
    return paths
