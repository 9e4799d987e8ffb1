"""The page of a comparison, in Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from disk_hloc.errors import DiskHlocError
from disk_hloc.pipelines import compare, reporting
from support.browser import CONTEXTS, chromium, opened

COMMAND = "disk-hloc compare photos out --rows disk,sift"
REASON = "SuperPoint's <weights> are missing"


@pytest.fixture(scope="module")
def made(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two rows, with a third that could not be run, and its page."""
    output = tmp_path_factory.mktemp("comparison")
    compare.main(
        scene / "images", output, rows=["disk", "sift"], max_keypoints=400, engine="native",
        device="cpu",
    )  # fmt: skip
    results = json.loads((output / "results.json").read_text())
    results["rows"]["superpoint"] = {"reason": REASON}
    (output / "results.json").write_text(json.dumps(results))
    reporting.main(output, scene / "images", command=COMMAND)
    return output


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium("--enable-unsafe-swiftshader") as started:
        yield started


@pytest.fixture(params=list(CONTEXTS))
def shown(made: Path, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, which loads nothing and logs no error."""
    with opened(browser, request.param, made / "report.html") as shown:
        yield shown


def test_rows_are_sorted_by_a_column(shown: Page, made: Path) -> None:
    expect(shown.locator(".warnings")).to_contain_text(REASON)
    expect(shown.locator("#command")).to_have_text(COMMAND)
    figures = json.loads((made / "results.json").read_text())["rows"]
    first = shown.locator("table.sortable tbody tr td:first-child")
    assert first.all_inner_texts() == ["disk", "sift", "superpoint"]
    points = {name: figures[name]["figures"]["points3D"] for name in ("disk", "sift")}
    head = shown.get_by_role("button", name="points", exact=True)
    head.click()
    assert first.all_inner_texts() == ["superpoint", *sorted(points, key=points.__getitem__)]
    head.click()
    assert first.all_inner_texts()[-1] == "superpoint"
    expect(shown.locator("th[aria-sort=descending]")).to_have_text("points")
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_models_beside_each_other(shown: Page) -> None:
    names = shown.evaluate(
        "[0, 1].map(side => document.getElementById(`scene-${side}`).data[0].marker.color.length)"
    )
    assert names[0] != names[1]
    shown.locator("#row-1").select_option("disk")
    again = shown.evaluate(
        "[0, 1].map(side => document.getElementById(`scene-${side}`).data[0].marker.color.length)"
    )
    assert again[0] == again[1] == names[0]
    # Both are in one frame.
    middles = shown.evaluate(
        "Object.values(data.scenes).map(scene => scene.layout.scene.xaxis.range)"
    )
    size = middles[0][1] - middles[0][0]
    assert abs(middles[0][0] - middles[1][0]) < 0.5 * size


def test_one_pair_in_each_row(shown: Page) -> None:
    panels = shown.locator("#panels figure")
    expect(panels).to_have_count(2)
    expect(panels.first.locator("figcaption")).to_contain_text("matches verify")
    first = panels.first.locator("img").get_attribute("src")
    assert shown.evaluate("document.querySelector('#panels img').naturalWidth") > 400
    shown.locator("#pair").select_option(index=1)
    assert panels.first.locator("img").get_attribute("src") != first


def test_it_is_made_again(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    (copy / "report.html").unlink()
    reporting.main(copy)
    assert "superpoint" in (copy / "report.html").read_text(encoding="utf-8")
    (copy / "results.json").write_text("{")
    with pytest.raises(DiskHlocError, match=r"results\.json is broken"):
        reporting.main(copy)
