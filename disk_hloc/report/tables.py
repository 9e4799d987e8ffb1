"""Tables of results: in text, in Markdown, and in files with the results as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disk_hloc.io.replace import replace_json, replace_text


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells, a heading first, in aligned columns."""
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


def key_values(figures: Mapping[str, Any]) -> str:
    """Return figures by name as two columns.

    A mapping among them becomes one line; an empty one is left out.
    """
    rows = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            if not value:
                continue
            value = ", ".join(f"{key} {number}" for key, number in value.items())
        rows.append((name.replace("_", " "), str(value)))
    width = max(len(name) for name, _ in rows)
    rule = "-" * min(width + 2 + max(len(value) for _, value in rows), 100)
    return "\n".join([rule, *(f"{name:{width}}  {value}" for name, value in rows), rule])


def missing_photos(reasons: Mapping[str, str], at_most: int = 40) -> str:
    """Return photos and why they are not in the model, as two columns.

    Args:
        reasons: photo -> why.
        at_most: how many photos are listed.
    """
    listed = dict(list(reasons.items())[:at_most])
    width = max(len(name) for name in listed)
    lines = [f"{name:{width}}  {reason}" for name, reason in listed.items()]
    if len(reasons) > at_most:
        lines.append(f"... and {len(reasons) - at_most} more: summary.json has all")
    return "\n".join(["Not in the model:", *lines])


def markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of cells, a heading first, as the lines of a Markdown table."""
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text.insert(1, "|---" + "|---:" * (len(lines[0]) - 1) + "|")
    return text


def page(title: str, lines: Sequence[Sequence[str]], note: str) -> str:
    """Return a Markdown page.

    Args:
        title: the title of the page.
        lines: the cells of the table, a heading first.
        note: what a reader of the table must know, in Markdown.
    """
    return "\n".join([f"# {title}", "", *markdown(lines), "", note, ""])


def write(
    folder: Path, title: str, results: Mapping[str, Any], lines: Sequence[Sequence[str]], note: str
) -> None:
    """Write ``results.json`` and ``results.md``, each whole or not at all.

    Args:
        folder: where the files are written; it is created.
        title: the title of the page.
        results: what the JSON file holds.
        lines: the cells of the table, a heading first.
        note: what a reader of the table must know, in Markdown.
    """
    write_results(folder, results, page(title, lines, note))


def write_results(folder: Path, results: Mapping[str, Any], text: str) -> None:
    """Write ``results.json``, and ``results.md`` with a text, each whole or not at all."""
    replace_json(folder / "results.json", results)
    replace_text(folder / "results.md", text)
