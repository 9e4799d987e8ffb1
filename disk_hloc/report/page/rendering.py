"""What all pages share: their templates, and the text of their scripts."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from disk_hloc import __version__
from disk_hloc.io.replace import finite, replace_text

NAME = "report.html"
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(output: Path, template: str, content: Any, **values: Any) -> Path:
    """Write a page into a folder.

    Args:
        output: the folder, whose name is the title.
        template: of this folder.
        content: what the page's script reads.
        values: what the template names.

    Returns:
        The page.
    """
    text = _ENVIRONMENT.get_template(template).render(
        title=output.resolve().name,
        versions=_versions(),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        plotly=get_plotlyjs(),
        content=as_script(content),
        **values,
    )
    path = output / NAME
    replace_text(path, text)
    return path


def as_script(content: Any) -> str:
    """Return JSON for a script element, which no text in it can end."""
    text = json.dumps(finite(content), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _versions() -> dict[str, str]:
    names = ("torch", "kornia", "pycolmap", "poselib", "h5py", "numpy")
    return {"disk_hloc": __version__, **{name: version(name) for name in names}}
