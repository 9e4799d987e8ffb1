"""The page for browsers: one file, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("page.html")
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        content: its HTML.
        policy: the header Content-Security-Policy: its own script and style alone are run.
    """

    content: bytes
    policy: str


def read() -> Page:
    """Read the page."""
    content = PATH.read_bytes()
    hashes = {
        tag.decode(): base64.b64encode(hashlib.sha256(text).digest()).decode()
        for tag, text in _INLINE.findall(content)
    }
    return Page(
        content,
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
