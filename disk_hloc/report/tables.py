"""How results are written: JSON, a Markdown table, and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disk_hloc.log import logger

# A curve: x, y and whether it was measured here.
Curve = tuple[Sequence[float], Sequence[float], bool]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, a heading first, in columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([rule, text[0], rule, *text[1:], rule])


def markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, a heading first, as the lines of a Markdown table."""
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text.insert(1, "|---" + "|---:" * (len(lines[0]) - 1) + "|")
    return text


def write(
    folder: Path, title: str, results: Mapping[str, Any], lines: Sequence[Sequence[str]], note: str
) -> None:
    """Write ``results.json`` and ``results.md``.

    Args:
        folder: where; it is created.
        title: the page's.
        results: what the JSON file holds.
        lines: the table, a heading first.
        note: what a reader of the table must know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    page = "\n".join([f"# {title}", "", *markdown(lines), "", note, ""])
    (folder / "results.md").write_text(page, encoding="utf-8")


def plot(
    folder: Path, panels: Mapping[str, Mapping[str, Curve]], x_label: str, y_label: str
) -> list[Path]:
    """Draw curves side by side, ``results.png`` and ``results.svg``.

    Args:
        folder: where.
        panels: title -> name -> curve, the same names in each; curves measured here are drawn
            thick and the others dashed.
        x_label: of all panels.
        y_label: of the first one.

    Returns:
        The files; none, with a warning, where matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("No plot, which needs matplotlib: pip install 'disk_hloc[eval]'")
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
        figure.savefig(path, dpi=120)
    return paths
