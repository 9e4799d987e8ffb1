"""The page of a reconstruction, in Chromium."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

import disk_hloc
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import read_model
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.pipelines import reporting, sfm
from disk_hloc.report.page import pairs
from support.browser import CONTEXTS, chromium, opened

PHOTOS = (3, 4, 5, 6)
# A name is text, whatever it looks like.
ODD = "<img src=x onerror=document.title='broken'>.jpg"
CONF = "output: f\nmodel: {name: disk, max_keypoints: 512}\npreprocessing: {resize_max: 384}\n"
COMMAND = "disk-hloc reconstruct 'my photos' out"


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reconstruction of four photos, beside a fifth of another place, and its report."""
    folder = tmp_path_factory.mktemp("report")
    photos = folder / "photos"
    photos.mkdir()
    for number in PHOTOS:
        reduce(data / f"fountain_p11/images/{number:04d}.jpg", photos / f"{number:04d}.jpg")
    reduce(next((data / "reichstag/images").iterdir()), photos / ODD)
    masks = folder / "masks"
    masks.mkdir()
    mask = np.full((256, 384), 255, np.uint8)
    mask[:100] = 0
    cv2.imwrite(str(masks / "0003.jpg.png"), mask)
    (folder / "conf.yaml").write_text(CONF)
    sfm.main(
        photos, folder / "out", extractor=str(folder / "conf.yaml"), turn="none", rescue=False,
        device="cpu",
    )  # fmt: skip
    reporting.main(folder / "out", photos, masks={"folder": masks}, command=COMMAND)
    return folder


def reduce(source: Path, target: Path) -> None:
    photo = cv2.resize(cv2.imread(str(source)), (384, 256), interpolation=cv2.INTER_AREA)
    target.write_bytes(cv2.imencode(".jpg", photo)[1].tobytes())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Without a GPU, WebGL is drawn by the CPU.
    with chromium("--enable-unsafe-swiftshader") as started:
        yield started


@pytest.fixture(params=list(CONTEXTS))
def shown(made: Path, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, which loads nothing and logs no error."""
    with opened(browser, request.param, made / "out/report.html") as shown:
        yield shown
        assert "broken" not in shown.title()


def colours(shown: Page, selector: str) -> int:
    picture = np.frombuffer(shown.locator(selector).screenshot(), np.uint8)
    return len(np.unique(cv2.imdecode(picture, cv2.IMREAD_COLOR).reshape(-1, 3), axis=0))


def test_the_page_says_what_the_model_is(shown: Page, made: Path) -> None:
    summary = json.loads((made / "out/summary.json").read_text())
    assert summary["registered"] == 4
    expect(shown.locator(".figures")).to_contain_text(str(summary["points3D"]))
    expect(shown.locator(".warnings")).to_contain_text("1 of 5 photos are not in the model")
    expect(shown.locator("#command")).to_have_text(COMMAND)
    expect(shown.locator("#table")).to_contain_text(summary["missing"][ODD])
    # The points have the colours of the photos.
    assert colours(shown, "#model-3d") > 300
    assert colours(shown, "#matrix") > 10
    width = shown.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0  # nothing sticks out


def test_the_table_is_sorted_and_filtered(shown: Page) -> None:
    names = shown.locator("#table tbody tr td:first-child")
    expect(names).to_have_count(5)
    shown.locator("th[data-key=points] button").click()
    expect(names.first).to_have_text(ODD)  # it has none
    shown.locator("th[data-key=points] button").click()
    expect(names.last).to_have_text(ODD)
    shown.locator("#only-missing").check()
    expect(names).to_have_text([ODD])
    expect(shown.locator("#count")).to_have_text("1 of 5")
    shown.locator("#only-missing").uncheck()
    shown.locator("#filter").fill("0004")
    expect(names).to_have_text(["0004.jpg"])


def test_a_photo_with_its_keypoints(shown: Page) -> None:
    shown.get_by_role("button", name="0003.jpg", exact=True).click()
    expect(shown.locator("#dialog-text")).to_contain_text("keypoints see a point")
    expect(shown.locator("#legend")).to_contain_text("red: 10 and more")
    shown.wait_for_timeout(300)
    by_tracks = pixels(shown)
    shown.locator("#color-by").select_option("errors")
    expect(shown.locator("#legend")).to_contain_text("px")
    shown.wait_for_timeout(300)
    by_errors = pixels(shown)
    assert (by_tracks != by_errors).any()
    # The masked part, above, is tinted red.
    red = by_tracks[..., 0].astype(int) - by_tracks[..., 1]
    assert red[:90].mean() > red[-90:].mean() + 30
    shown.keyboard.press("Escape")
    expect(shown.locator("#dialog")).not_to_be_visible()


def pixels(shown: Page) -> np.ndarray:
    """The canvas, (H, W, 4)."""
    values = shown.evaluate(
        "() => { const c = document.getElementById('canvas'); return [c.width, c.height, "
        "Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]; }"
    )
    return np.array(values[2], np.uint8).reshape(values[1], values[0], 4)


def test_a_pair_with_its_matches(shown: Page, made: Path) -> None:
    buttons = shown.locator(".pairs button")
    assert buttons.count() >= len(read_pairs(made / "out/pairs.txt")) - 1
    buttons.first.click()
    expect(shown.locator("#dialog-text")).to_contain_text("agree geometrically and are drawn")
    expect(shown.locator("#dialog-controls")).not_to_be_visible()
    shown.wait_for_timeout(300)
    assert len(np.unique(pixels(shown).reshape(-1, 4), axis=0)) > 1000
    shown.locator("#close").click()
    rejected = shown.locator(".pairs button", has_text="img src").first
    rejected.click()
    expect(shown.locator("#dialog-text")).to_contain_text("too few of which agree")


def test_the_view_is_kept_while_points_change_their_size(shown: Page) -> None:
    eye = "document.getElementById('model-3d')._fullLayout.scene.camera.eye"
    before = shown.evaluate(eye)
    shown.locator("#model-3d").scroll_into_view_if_needed()
    box = shown.locator("#model-3d").bounding_box()
    assert box is not None
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.mouse.down()
    shown.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=5)
    shown.mouse.up()
    shown.wait_for_timeout(300)
    turned = shown.evaluate(eye)
    assert turned != before
    shown.locator("#point-size").fill("3")
    assert shown.evaluate(eye) == pytest.approx(turned)


def test_a_camera_is_clicked(shown: Page) -> None:
    shown.evaluate(
        "document.getElementById('model-3d').emit('plotly_click', "
        "{points: [{curveNumber: 2, pointNumber: 1}]})"
    )
    expect(shown.locator("#dialog-title")).to_have_text("0004.jpg")


def test_it_is_made_again(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made / "out", tmp_path / "out"))
    page = copy / "report.html"
    page.unlink()
    assert reporting.main(copy) == page
    assert COMMAND.split()[0] in page.read_text(encoding="utf-8")
    (copy / ".report.json").unlink()
    with pytest.raises(DiskHlocError, match="does not say where its photos are"):
        reporting.main(copy)
    with pytest.raises(DiskHlocError, match="no model"):
        reporting.main(tmp_path, made / "photos")


def test_the_figure_for_notebooks(made: Path) -> None:
    model = read_model(made / "out/sfm")
    figure = disk_hloc.view(made / "out/sfm")
    points, frusta, cameras = figure.data
    assert len(points.x) == model.num_points3D()
    assert len(cameras.text) == 4
    assert len(frusta.x) == 4 * 8 * 3
    assert disk_hloc.view(model).to_json() == figure.to_json()


def test_a_photo_without_keypoints(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "database.db") as database:
        database.execute("CREATE TABLE keypoints (image_id, rows, cols, data)")
        database.execute("INSERT INTO keypoints VALUES (1, 0, 2, NULL), (2, 0, 0, NULL)")
        for image_id in (1, 2):
            assert pairs._keypoints(database, image_id).shape == (0, 2)
