"""Chromium, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# A page in which two sizes and both colour schemes are tried.
CONTEXTS: dict[str, dict[str, Any]] = {
    "desktop": {},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 2,
        "color_scheme": "dark",
    },
}


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start Debian's browser; without it, the test is skipped (not in CI)."""
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("needs Chromium: apt-get install chromium")
    expect.set_options(timeout=20_000)  # of a busy machine
    with sync_playwright() as playwright:
        # Its sandbox does not run for root, and the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", *arguments]
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, kind: str, path: Path) -> Iterator[Page]:
    """Open a report's page in one of :data:`CONTEXTS`; it may load nothing and log no error."""
    context = browser.new_context(**CONTEXTS[kind], offline=True)
    shown, logged = context.new_page(), []
    shown.on("console", lambda m: m.type == "error" and logged.append(m.text))
    shown.on("pageerror", lambda error: logged.append(str(error)))
    shown.on("request", lambda r: r.url.startswith("http") and logged.append(r.url))
    shown.goto(path.as_uri())
    expect(shown.locator("html[data-ready=true]")).to_be_attached()
    yield shown
    assert logged == []
    context.close()
