"""A map that is served by the command: real HTTP, hostile uploads, many clients, signals."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from disk_hloc import Localizer
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.map_folder import read_map
from disk_hloc.localizer import Localization
from disk_hloc.serve import map_view, page, run
from disk_hloc.serve.app import Service, create_app
from disk_hloc.serve.guard import Guard
from disk_hloc.serve.limits import Limits
from disk_hloc.serve.server import Server as MapServer
from support.browser import CONTEXTS, chromium
from support.http import BOUNDARY, FORM, Client, Server, file_part, form, serving, text_part
from support.tiny_map import TinyMap, build_tiny_map

MAX_UPLOAD = 300_000
QUEUE = 3


@pytest.fixture(scope="module")
def tiny(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyMap:
    return build_tiny_map(data, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def server(tiny: TinyMap, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ["--queue", str(QUEUE), "--max-upload", str(MAX_UPLOAD / 1e6), "--max-pixels", "1"]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(tiny.folder, log, *options) as running:
        yield running


def test_a_photo_is_localized(server: Server, tiny: TinyMap) -> None:
    expected = Localizer(tiny.folder).localize(tiny.query)
    answer = server.localize(tiny.query.read_bytes())
    assert answer.status == 200
    assert answer.json["localized"]
    assert answer.json["camera_from"] == "estimated"
    assert expected.pose is not None
    assert expected.position is not None
    np.testing.assert_allclose(answer.json["center"], expected.pose.center, atol=1e-3)
    assert answer.json["position"]["latitude"] == pytest.approx(expected.position[0], abs=1e-7)
    best = max(answer.json["retrieved"], key=lambda one: one["inliers"])
    names = [photo["name"] for photo in server.get("/map").json["photos"]]
    assert names[best["photo"]] == best["name"]


def test_a_camera_is_used(server: Server, tiny: TinyMap) -> None:
    answer = server.localize(tiny.query.read_bytes(), "SIMPLE_PINHOLE 345,192,128")
    assert answer.json["localized"]
    assert answer.json["camera_from"] == "given"
    assert answer.json["camera"]["params"] == [345, 192, 128]


def test_a_photo_of_another_place_gets_the_reason(server: Server, tiny: TinyMap) -> None:
    answer = server.localize(tiny.elsewhere.read_bytes())
    assert answer.status == 200
    assert not answer.json["localized"]
    assert "another place" in answer.json["reason"]


def test_the_map_is_described(server: Server) -> None:
    described = server.get("/map").json
    assert described["num_photos"] == len(described["photos"]) == 5
    points = server.get("/map/points").body
    count = described["shown_points"]
    assert len(points) == 15 * count
    assert count == described["num_points"]
    xyz = np.frombuffer(points, "<f4", 3 * count).reshape(-1, 3)
    box = described["bounding_box"]
    np.testing.assert_allclose(xyz.min(axis=0), box["min"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(xyz.max(axis=0), box["max"], rtol=1e-5, atol=1e-5)
    assert described["georeference"] == {"latitude": 47, "longitude": 8, "altitude": 400}
    assert described["view"]["up"] == [0, 0, 1]


def test_openapi_describes_the_answers(server: Server) -> None:
    schema = server.get("/openapi.json").json
    localize = schema["paths"]["/localize"]["post"]
    assert {"200", "413", "422", "429", "504"} <= set(localize["responses"])
    assert "multipart/form-data" in localize["requestBody"]["content"]
    assert "cam_from_world" in schema["components"]["schemas"]["Localization"]["properties"]
    assert server.get("/healthz").json["status"] == "ok"


def test_thumbnails_are_asked_by_number_alone(server: Server) -> None:
    thumbnail = server.get("/map/photos/0/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(thumbnail.body)).size == (384, 256)
    for number in ("5", "-1", "99999999999999999999", "0001.jpg", "..%2f..%2fmap.json", "nan"):
        answer = server.get(f"/map/photos/{number}/thumbnail")
        assert answer.status in (404, 422), number
        assert answer.json["reason"]
    for path in ("/map.json", "/../map.json", "//etc/passwd", "/docs", "/localize"):
        answer = server.get(path)
        assert answer.status in (404, 405), path
        assert answer.json["reason"]


def test_every_answer_has_the_headers_of_security(server: Server) -> None:
    for path in ("/", "/map", "/nothing", "/map/photos/0/thumbnail", "/openapi.json"):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    assert "unsafe" not in server.get("/").headers["content-security-policy"]


def test_pages_of_other_sites_may_not_ask(server: Server, tiny: TinyMap) -> None:
    photo = tiny.query.read_bytes()
    own = f"http://127.0.0.1:{server.port}"
    assert server.localize(photo, Origin="http://example.org").status == 403
    assert server.localize(photo, Origin="null").status == 403
    assert server.localize(photo, Sec_Fetch_Site="cross-site").status == 403
    assert server.localize(photo, Origin=own).status == 200
    # Another name that points to this machine: DNS rebinding.
    rebound = server.get("/map", {"Host": f"example.org:{server.port}"})
    assert rebound.status == 403
    assert "--allow-host" in rebound.json["reason"]
    assert server.get("/map", {"Host": f"localhost:{server.port}"}).status == 200


def hostile(tiny: TinyMap) -> dict[str, tuple[bytes, str, int]]:
    """Bodies, their content types, and the status of the answer."""
    photo = tiny.query.read_bytes()
    whole = form(file_part("photo", photo))
    bomb = io.BytesIO()
    Image.new("L", (9000, 9000)).save(bomb, "PNG")
    part = f"--{BOUNDARY}\r\n"
    return {
        "no body": (b"", FORM, 400),
        "no form": (photo, "image/jpeg", 415),
        "no boundary": (whole, "multipart/form-data", 400),
        "another boundary": (whole, "multipart/form-data; boundary=other", 400),
        "an endless boundary": (whole, "multipart/form-data; boundary=" + "b" * 5000, 400),
        "JSON": (b"{}", "application/json", 415),
        "a form without files": (b"photo=1", "application/x-www-form-urlencoded", 415),
        "no photo": (form(text_part("camera", "PINHOLE 1,2,3,4")), FORM, 400),
        "an empty photo": (form(file_part("photo", b"")), FORM, 422),
        "a photo without a file name": (form(text_part("photo", "abc")), FORM, 400),
        "two photos": (form(file_part("photo", photo), file_part("photo", photo)), FORM, 400),
        "a file as camera": (
            form(file_part("photo", photo), file_part("camera", b"PINHOLE")), FORM, 400,
        ),
        "an unknown part": (form(file_part("photo", photo), text_part("mask", "1")), FORM, 400),
        "a path": (form(file_part("photo", photo), text_part("path", "/etc/passwd")), FORM, 400),
        "a file with a path as its name": (
            form(file_part("photo", b"root:x:0", "../../etc/passwd")), FORM, 415,
        ),
        "a part without a name": (
            f"{part}Content-Disposition: form-data\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(),
            FORM, 400,
        ),
        "two cameras": (
            form(file_part("photo", photo), *[text_part("camera", "PINHOLE 345,345,192,128")] * 2),
            FORM,
            400,
        ),
        "a thousand parts": (form(*[text_part("camera", "x")] * 1000), FORM, 400),
        "a header without an end": (f"{part}X: {'y' * 100_000}".encode(), FORM, 400),
        "a form without an end": (whole[: len(whole) // 2], FORM, 400),
        "a text": (form(file_part("photo", b"hello\n" * 1000)), FORM, 415),
        "an SVG": (form(file_part("photo", b"<svg onload='alert(1)'/>")), FORM, 415),
        "half a JPEG": (form(file_part("photo", photo[: len(photo) // 2])), FORM, 422),
        "the start of a JPEG": (form(file_part("photo", photo[:100])), FORM, 415),
        "a bomb": (form(file_part("photo", bomb.getvalue())), FORM, 413),
        "too many bytes": (form(file_part("photo", photo * 20)), FORM, 413),
        "an endless camera": (
            form(file_part("photo", photo), text_part("camera", "a" * 10_000)), FORM, 400,
        ),
        "an unknown camera": (
            form(file_part("photo", photo), text_part("camera", "NO 1,2")), FORM, 422,
        ),
        "a camera of NaN": (
            form(file_part("photo", photo), text_part("camera", "PINHOLE nan,1,2,3")), FORM, 422,
        ),
        "a camera that is not UTF-8": (
            form(file_part("photo", photo), file_part("camera", b"\xff\xfe", None)), FORM, 422,
        ),
        "a charset that does not exist": (
            form(file_part("photo", photo), text_part("camera", "x")), FORM + "; charset=no", 422,
        ),
    }  # fmt: skip


def test_hostile_uploads_are_refused_with_a_reason(server: Server, tiny: TinyMap) -> None:
    before = server.memory_mb()
    wrong = {}
    for name, (body, content_type, status) in hostile(tiny).items():
        for chunked in (False, True):
            answer = server.post(iter([body]) if chunked else body, Content_Type=content_type)
            if answer.status != status or not answer.json["reason"]:
                wrong[name, chunked] = answer
    assert not wrong
    assert server.memory_mb() < before + 100
    assert server.localize(tiny.query.read_bytes()).json["localized"]
    assert "Traceback" not in server.log.read_text()


def test_lies_about_the_length_are_survived(server: Server, tiny: TinyMap) -> None:
    body = form(file_part("photo", tiny.query.read_bytes()))

    def request(length: str, sent: bytes = body, leave: bool = False) -> bytes:
        head = f"POST /localize HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n"
        return server.raw(f"{head}{length}\r\n\r\n".encode() + sent, leave)

    assert b"200 OK" in request(f"Content-Length: {len(body)}\r\nConnection: close")
    assert b" 413 " in request(
        "Content-Length: 99999999999\r\nExpect: 100-continue\r\nConnection: close", b""
    )
    # Shorter: the rest is no request.
    assert b" 400 " in request(f"Content-Length: {len(body) // 2}", body + b"\r\n\r\n")
    # Longer: the client leaves before the end.
    request(f"Content-Length: {2 * len(body)}", leave=True)
    for broken in ("-5", "x", "1\r\nContent-Length: 2", "9" * 400):
        assert b" 4" in request(f"Content-Length: {broken}")[:20]
    assert b" 400 " in request("Transfer-Encoding: chunked", b"zzz\r\n")
    nonsense = server.raw(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    assert b" 400 " in nonsense
    assert b'{"reason": ' in nonsense
    assert server.get("/healthz").json["waiting"] == 0
    assert "Traceback" not in server.log.read_text()


def test_many_clients_are_answered_or_told_to_come_back(server: Server, tiny: TinyMap) -> None:
    """And the memory stays as it is."""
    photo = tiny.query.read_bytes()
    refused: list[int] = []

    def ask(_: int) -> tuple[bool, list[float]]:
        for _ in range(100):
            answer = server.localize(photo)
            if answer.status == 200:
                return answer.json["localized"], answer.json["center"]
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) >= 1
            refused.append(1)
            time.sleep(0.2)
        raise AssertionError("there was no room")

    with ThreadPoolExecutor(8) as clients:
        first = list(clients.map(ask, range(8)))
        before = server.memory_mb()
        last = list(clients.map(ask, range(16)))
    assert refused
    assert all(localized for localized, _ in first + last)
    assert np.ptp([center for _, center in first + last], axis=0).max() < 1e-6
    assert server.memory_mb() < before + 20


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(params=list(CONTEXTS))
def shown(server: Server, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, with the map in it; it must have logged nothing by the end of the test."""
    context = browser.new_context(**CONTEXTS[request.param])
    shown, logged = context.new_page(), []
    # The browser itself logs each status that is an error.
    shown.on(
        "console",
        lambda message: "status of 4" in message.text or logged.append(message.text),
    )
    shown.on("pageerror", lambda error: logged.append(str(error)))
    shown.on("requestfailed", lambda failed: logged.append(failed.url))
    shown.goto(f"http://127.0.0.1:{server.port}/")
    expect(shown.locator("#about")).to_contain_text("5 photos")
    yield shown
    assert logged == []
    context.close()


def painted(shown: Page) -> np.ndarray:
    """The canvas, (H, W, 3) uint8, after it has come to rest."""
    frames: list[bytes] = []
    while len(frames) < 2 or frames[-1] != frames[-2]:
        shown.wait_for_timeout(100)
        frames.append(shown.locator("canvas").screenshot())
    return np.asarray(Image.open(io.BytesIO(frames[-1])).convert("RGB"))


def has_colour(picture: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(picture.astype(int) - wanted).max(axis=2) < 12).sum() > 20)


def test_the_page_shows_the_map_and_the_answer(shown: Page, tiny: TinyMap) -> None:
    colour = shown.evaluate("getComputedStyle(document.body).getPropertyValue('--query')").strip()
    before = painted(shown)
    # Without its points, it has the mixed colours of the lines' edges alone.
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 300
    assert not has_colour(before, colour)
    shown.set_input_files("#file", tiny.query)
    expect(shown.locator("#status")).to_have_text(re.compile(r"Localized: \d+ keypoints"))
    assert has_colour(painted(shown), colour)
    expect(shown.locator("#facts")).to_contain_text("47.000")
    thumbnails = shown.locator("#photos img")
    assert thumbnails.count() >= 3
    for image in thumbnails.all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("naturalWidth", 384)
    # Nothing is cut off at the side.
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # By its keys alone, the view is turned and reset.
    shown.locator("canvas").focus()
    whole = [shown.keyboard.press("0"), painted(shown)][1]
    turned = [shown.keyboard.press("ArrowLeft"), painted(shown)][1]
    assert (turned != whole).any()
    shown.keyboard.press("0")
    assert (painted(shown) == whole).all()


def test_the_page_says_why_there_is_no_pose(shown: Page, tiny: TinyMap, tmp_path: Path) -> None:
    shown.set_input_files("#file", tiny.elsewhere)
    expect(shown.locator("#status")).to_have_text(re.compile("Not localized: .* another place"))
    text = tmp_path / "a.txt"
    text.write_text("hello")
    shown.set_input_files("#file", text)
    expect(shown.locator("#status")).to_have_text(re.compile("Refused: .* is no photo"))
    expect(shown.locator("#facts")).to_be_hidden()


def test_a_server_knows_that_its_map_has_changed(server: Server, tiny: TinyMap) -> None:
    assert server.get("/healthz").json["outdated"] is False
    read_map(tiny.folder).commit()
    assert server.get("/healthz").json["outdated"] is True


def test_ctrl_c_ends_the_server(server: Server) -> None:
    """The last test with this server."""
    with socket.create_connection(("127.0.0.1", server.port)):  # a browser keeps one open
        code, seconds = server.stop(signal.SIGINT)
    assert code == 130
    assert seconds < 2.5  # half a second for a busy machine
    assert "Traceback" not in server.log.read_text()


def test_sigterm_ends_a_query(tiny: TinyMap, tmp_path: Path) -> None:
    with serving(tiny.folder, tmp_path / "log.txt") as server, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.localize, tiny.query.read_bytes()) for _ in range(8)]
        while not server.get("/healthz").json["running_seconds"]:
            time.sleep(0.02)
        code, seconds = server.stop(signal.SIGTERM)
        assert {future.result(5).status for future in asked} <= {200, 503}
        assert code == 143
        assert seconds < 2.5  # half a second for a busy machine
        assert "Traceback" not in server.log.read_text()


class Held(Localizer):
    """A localizer that begins with a query when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.go = threading.Event()

    def localize(self, *args: Any, **options: Any) -> Localization:
        self.go.wait()
        return super().localize(*args, **options)


@dataclass(frozen=True)
class Within:
    """A server in this process."""

    client: Client
    server: MapServer
    service: Service
    go: threading.Event

    def wait_for(self, **health: object) -> None:
        """Wait until /healthz says this."""
        deadline = time.monotonic() + 5
        while not health.items() <= self.client.get("/healthz").json.items():
            assert time.monotonic() < deadline, self.client.get("/healthz").json
            time.sleep(0.02)


@pytest.fixture
def within(tiny: TinyMap, request: pytest.FixtureRequest) -> Iterator[Within]:
    """A server with the limits of the test's parameter, whose queries run when they are let."""
    localizer = Held(tiny.folder)
    service = Service(localizer, request.param)
    server = MapServer(Guard(create_app(service), None), service)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield Within(Client(listener.getsockname()[1]), server, service, localizer.go)
        localizer.go.set()
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "within", [Limits(upload_seconds=0.3, idle_seconds=0.5, connections=20)], indirect=True
)
def test_slow_and_idle_clients_are_sent_away(within: Within) -> None:
    head = f"POST /localize HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n"
    place = ("127.0.0.1", within.client.port)
    with socket.create_connection(place, timeout=10) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n--{BOUNDARY}".encode())
        assert b" 408 " in slow.recv(1000)
    # Without a whole request they would take all places.
    idle = [socket.create_connection(place, timeout=10) for _ in range(20)]
    for i, connection in enumerate(idle):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n"[: 30 * (i % 2)])
    assert within.client.get("/healthz").status == 503
    for connection in idle:
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        connection.close()
    assert within.client.get("/healthz").status == 200


@pytest.mark.parametrize("within", [Limits(queue=2, answer_seconds=0.3)], indirect=True)
def test_a_query_in_vain_keeps_its_place_only_if_it_runs(within: Within, tiny: TinyMap) -> None:
    photo = tiny.query.read_bytes()
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(within.client.localize, [photo] * 2))
    assert time.monotonic() - start < 3
    assert [answer.status for answer in answers] == [504, 504]
    reasons = " ".join(answer.json["reason"] for answer in answers)
    assert "still running" in reasons
    assert "waiting for others" in reasons
    within.wait_for(waiting=0)
    assert within.client.get("/healthz").json["running_seconds"] > 0.2
    within.go.set()
    within.wait_for(running_seconds=0)
    assert within.client.localize(photo).status in (200, 504)


@pytest.mark.parametrize("within", [Limits(queue=2)], indirect=True)
def test_who_leaves_frees_the_place(within: Within, tiny: TinyMap) -> None:
    body = form(file_part("photo", tiny.query.read_bytes()))
    head = f"POST /localize HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    place = ("127.0.0.1", within.client.port)
    with contextlib.ExitStack() as leaving:
        for waiting in (0, 1, 2):
            leaving.enter_context(socket.create_connection(place)).sendall(request)
            within.wait_for(waiting=waiting)
        full = within.client.post(body)
        assert full.status == 429
        assert int(full.headers["retry-after"]) >= 1
    # The first one still runs, though nobody waits for it.
    within.wait_for(waiting=0)
    assert within.client.get("/healthz").json["running_seconds"] > 0


@pytest.mark.parametrize("within", [Limits(uploads=1)], indirect=True)
def test_uploads_at_a_time_are_limited(within: Within, tiny: TinyMap) -> None:
    head = f"POST /localize HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n"
    within.go.set()
    with socket.create_connection(("127.0.0.1", within.client.port)) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n--{BOUNDARY}".encode())
        while not within.service.uploads:
            time.sleep(0.02)
        assert within.client.localize(tiny.query.read_bytes()).status == 429
    while within.service.uploads:
        time.sleep(0.02)
    assert within.client.localize(tiny.query.read_bytes()).status == 200


@pytest.mark.parametrize("within", [Limits()], indirect=True)
def test_all_who_wait_are_told_that_the_server_stops(within: Within, tiny: TinyMap) -> None:
    photo = tiny.query.read_bytes()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(within.client.localize, photo) for _ in range(3)]
        within.wait_for(waiting=2)
        start = time.monotonic()
        within.server.should_exit = True
        answers = [future.result(5) for future in asked]
    assert time.monotonic() - start < 1.5
    assert [answer.status for answer in answers] == [503] * 3
    assert all("stopping" in answer.json["reason"] for answer in answers)


def test_a_map_with_names_that_lead_elsewhere_shows_nothing(tiny: TinyMap) -> None:
    served = Localizer(tiny.folder)
    (tiny.folder / "outside.jpg").write_bytes(b"")
    for name in ("../outside", str(tiny.folder / "outside")):
        index = replace(served.index, names=[name, *served.index.names[1:]])
        assert served.map.thumbnail(name).is_file()
        assert map_view.thumbnail(served.map, index, 0) is None
        assert map_view.thumbnail(served.map, index, 1) is not None


def test_a_port_that_is_taken_is_told_before_the_map_is_read(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = rf"cannot listen on 127.0.0.1, port {port}: .* choose another"
        with pytest.raises(DiskHlocError, match=expected):
            run.main(tmp_path, port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a" * 300])
def test_an_address_of_another_machine_is_told(host: str, tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="cannot listen"):
        run.main(tmp_path, host=host, port=0)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    found = page.read()
    assert not re.search(rb"""(src|href)=["'](https?:)?//""", found.content)
    assert b"<script src" not in found.content
    assert found.policy.count("'sha256-") == 2
