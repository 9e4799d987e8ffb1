"""Downloading the published data from a local server that can misbehave in many ways."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.dataset import download, fetch
from disk_hloc.dataset.unpack import unpack
from disk_hloc.errors import DiskHlocError
from support.errors import one_line_error


class Server(ThreadingHTTPServer):
    """How the server behaves, and the requests that it received."""

    ranges = True
    # Number of bytes after which it closes the connection; None for never.
    drop_after: int | None = None
    # Status to send instead of an answer, and for how many requests.
    failing: tuple[int, int] = (503, 0)
    asked: list[tuple[str, str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        status, times = self.server.failing
        if times:
            self.server.failing = (status, times - 1)
            return self.send_error(status)
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and self.server.ranges and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if wanted and self.server.ranges:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            content = content[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.drop_after])

    def log_message(self, *arguments: object) -> None:
        pass


def add_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def sums(folder: Path, left_out: str = "dataset.json") -> None:
    lines = [
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (left_out, "md5sum.txt")
    ]
    (folder / "md5sum.txt").write_text("".join(lines))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two scenes for training and one for validation, in the layout of the published data."""
    folder = tmp_path / "site"
    noise = np.random.default_rng(0).bytes
    for part, name in (
        ("megadepth", "0000.tar"),
        ("megadepth", "0001.tar"),
        ("imw2020-val", "reichstag.tar.gz"),
    ):
        scene = name.split(".")[0]
        prefix = f"./{part}/scenes/{scene}"
        add_tar(
            folder / part / "scenes" / name,
            {
                f"{prefix}/images/a.jpg": noise(300_000),
                f"{prefix}/calibration/calibration_a.jpg.h5": noise(3000),
                f"{prefix}/depth/a.h5": noise(200_000),
            },
        )
    for part, scenes in (("megadepth", ["0000", "0001"]), ("imw2020-val", ["reichstag"])):
        content = {
            scene: {
                "image_path": f"scenes/{scene}/images",
                "calib_path": f"scenes/{scene}/calibration",
                "depth_path": f"scenes/{scene}/depth",
                "images": ["a.jpg"],
                "tuples": [],
            }
            for scene in scenes
        }
        (folder / part / "dataset.json").write_text(json.dumps(content))
    sums(folder)
    return folder


@pytest.fixture(autouse=True)
def at_once_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    made.asked = []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def got(server: Server, name: str) -> list[str | None]:
    return [wanted for path, wanted in server.asked if path.endswith(name)]


def is_whole(out: Path, site: Path) -> bool:
    """Check that all scenes are there as in the archives, and nothing else."""
    for part in ("megadepth", "imw2020-val"):
        assert (out / part / "dataset.json").read_bytes() == (
            site / part / "dataset.json"
        ).read_bytes()
        for archive in (site / part / "scenes").iterdir():
            with tarfile.open(archive) as tar:
                for member in tar:
                    stored = tar.extractfile(member)
                    assert stored is not None
                    assert (out / member.name).read_bytes() == stored.read()
    assert not [*out.rglob("*.part*"), *out.rglob("*.tar*"), *out.rglob(".*")]
    for link, part in (("train", "megadepth"), ("test", "imw2020-val")):
        assert (out / link).is_symlink()
        assert (out / link / "dataset.json").samefile(out / part / "dataset.json")
    return True


def test_all_is_downloaded_checked_and_unpacked_once(
    server: Server, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert download.main(out, url=server.url + "/") == out
    assert is_whole(out, site)
    server.asked.clear()
    download.main(out, url=server.url)
    assert [path for path, _ in server.asked] == ["/md5sum.txt"]
    # Only a scene that was removed since then is downloaded again.
    shutil.rmtree(out / "megadepth" / "scenes" / "0001")
    download.main(out, url=server.url)
    assert is_whole(out, site)
    assert [path for path, _ in server.asked][1:] == ["/md5sum.txt", "/megadepth/scenes/0001.tar"]
    server.asked.clear()
    mine = out / "megadepth" / "mine.txt"
    mine.write_text("mine")
    download.main(out, url=server.url, overwrite=True)
    assert len(server.asked) == 6
    assert mine.read_text() == "mine"


def test_one_part_alone_and_archives_that_are_kept(
    server: Server, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["dataset", "download", str(out), "--split", "test", "--url", server.url]
    result = CliRunner().invoke(app, [*arguments, "--keep-archives"])
    assert result.exit_code == 0, result.output
    assert (out / "test" / "scenes" / "reichstag" / "images" / "a.jpg").is_file()
    assert (out / "test" / "scenes" / "reichstag.tar.gz").is_file()
    assert not (out / "train").exists()
    assert not got(server, ".tar")


def test_a_connection_that_drops_is_resumed_where_it_was(
    server: Server, site: Path, tmp_path: Path
) -> None:
    server.drop_after = 200_000
    out = tmp_path / "out"
    download.main(out, url=server.url)
    assert is_whole(out, site)
    assert got(server, "0000.tar") == [None, "bytes=200000-", "bytes=400000-"]


def test_a_stopped_download_keeps_its_part_for_the_next_call(
    server: Server, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "0000.tar"
    url = f"{server.url}/megadepth/scenes/0000.tar"
    content = (site / "megadepth" / "scenes" / "0000.tar").read_bytes()
    read = fetch._read
    blocks = []

    def interrupted(response: object) -> bytes:
        if len(blocks) == 3:
            raise KeyboardInterrupt
        blocks.append(read(response)[:1000])
        return blocks[-1]

    monkeypatch.setattr(fetch, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(url, target)
    monkeypatch.setattr(fetch, "_read", read)
    assert not target.exists()
    assert fetch.part_of(target).read_bytes() == b"".join(blocks)
    # The blocks above were truncated, so the part is not the beginning of the file.
    fetch.part_of(target).write_bytes(content[:3000])
    counted: list[int] = []
    fetch.fetch(url, target, md5=hashlib.md5(content).hexdigest(), progress=counted.append)
    assert target.read_bytes() == content
    assert not fetch.part_of(target).exists()
    assert got(server, "0000.tar") == [None, "bytes=3000-"]
    assert sum(counted) == len(content) - 3000


def test_a_part_that_is_complete_or_too_long(server: Server, site: Path, tmp_path: Path) -> None:
    target = tmp_path / "0000.tar"
    url = f"{server.url}/megadepth/scenes/0000.tar"
    content = (site / "megadepth" / "scenes" / "0000.tar").read_bytes()
    for left in (content, content + b"more"):
        fetch.part_of(target).write_bytes(left)
        counted: list[int] = []
        fetch.fetch(url, target, md5=hashlib.md5(content).hexdigest(), progress=counted.append)
        assert target.read_bytes() == content
        assert len(left) + sum(counted) == len(content)


def test_without_ranges_the_download_starts_over(
    server: Server, site: Path, tmp_path: Path
) -> None:
    server.ranges = False
    target = tmp_path / "0000.tar"
    content = (site / "megadepth" / "scenes" / "0000.tar").read_bytes()
    fetch.part_of(target).write_bytes(content[:5000])
    counted: list[int] = []
    url = f"{server.url}/megadepth/scenes/0000.tar"
    fetch.fetch(url, target, md5=hashlib.md5(content).hexdigest(), progress=counted.append)
    assert target.read_bytes() == content
    assert 5000 + sum(counted) == len(content)
    # If it also drops connections, the download cannot succeed.
    server.drop_after = 1000
    target.unlink()
    with pytest.raises(fetch.Stopped) as error:
        fetch.fetch(url, target)
    assert one_line_error(error, url, "7 times in a row", "closed early", ".part")
    assert not target.exists()


def test_a_server_that_is_busy_is_asked_again(server: Server, site: Path, tmp_path: Path) -> None:
    server.failing = (503, 3)
    fetch.fetch(f"{server.url}/md5sum.txt", tmp_path / "sums")
    assert (tmp_path / "sums").read_bytes() == (site / "md5sum.txt").read_bytes()
    server.failing = (503, 100)
    with pytest.raises(fetch.Stopped, match="503"):
        fetch.fetch(f"{server.url}/md5sum.txt", tmp_path / "sums2")


def test_a_file_with_a_wrong_sum_is_removed_and_the_others_are_kept(
    server: Server, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    right = (site / "md5sum.txt").read_text()
    sum_of = right.splitlines()[1].split()
    assert sum_of[1].endswith("megadepth/scenes/0000.tar")
    (site / "md5sum.txt").write_text(right.replace(sum_of[0], "0" * 32))
    with pytest.raises(DiskHlocError) as error:
        download.main(out, url=server.url)
    assert one_line_error(
        error, "1 of 5 files", "megadepth/scenes/0000.tar", "does not have the MD5 sum"
    )
    assert not list((out / "megadepth" / "scenes").glob("0000*"))
    assert (out / "megadepth" / "scenes" / "0001" / "images" / "a.jpg").is_file()
    assert (out / "imw2020-val" / "dataset.json").is_file()
    # Not before all scenes are there.
    assert not (out / "megadepth" / "dataset.json").exists()
    (site / "md5sum.txt").write_text(right)
    server.asked.clear()
    download.main(out, url=server.url)
    assert is_whole(out, site)
    assert len(server.asked) == 3


def test_a_file_that_is_not_on_the_server_is_named(
    server: Server, site: Path, tmp_path: Path
) -> None:
    (site / "megadepth" / "scenes" / "0001.tar").unlink()
    with pytest.raises(DiskHlocError) as error:
        download.main(tmp_path / "out", url=server.url)
    assert one_line_error(error, "1 of 5", "megadepth/scenes/0001.tar", "404", "--url")


def test_offline_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DiskHlocError) as error:
        download.main(tmp_path / "out", url=url)
    assert one_line_error(error, f"{url}/md5sum.txt", "refused", "connection", "--url")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DiskHlocError) as error:
        download.main(tmp_path / "out", url="file:///etc")
    assert one_line_error(error, "file:///etc", "http")


def test_the_free_space_is_checked_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1_900_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: free)
    with pytest.raises(DiskHlocError) as error:
        download.main(tmp_path / "out", url=server.url)
    assert one_line_error(error, tmp_path / "out", "0.0 GB free", "free some space")
    assert not got(server, ".tar")
    # There is space for one part.
    download.main(tmp_path / "out", url=server.url, split="test")


@pytest.mark.parametrize("text", ["", "<html>\n", f"{'0' * 32}  ../../evil.tar\n"])
def test_invalid_sums_and_paths_outside_the_folder(
    server: Server, site: Path, tmp_path: Path, text: str
) -> None:
    (site / "md5sum.txt").write_text(text)
    with pytest.raises(DiskHlocError) as error:
        download.main(tmp_path / "out", url=server.url)
    assert one_line_error(error, "md5sum.txt")


def test_archives_are_unpacked_inside_their_folder_or_not_at_all(tmp_path: Path) -> None:
    archive, out = tmp_path / "a.tar", tmp_path / "out"
    for name in ("a/b/../../../evil", "../evil"):
        add_tar(archive, {"a/b/fine": b"1", name: b"2"})
        with pytest.raises(DiskHlocError) as error:
            unpack(archive, out, 1)
        assert one_line_error(error, archive, name, "outside its folder")
        assert not list(out.iterdir())
    add_tar(archive, {f"{tmp_path}/evil": b"3"})
    deep = len(tmp_path.parts) - 1
    assert unpack(archive, out, 0) == [tmp_path.parts[1]]
    assert not (tmp_path / "evil").exists()
    assert unpack(archive, out, deep) == ["evil"]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(archive, "w") as tar:
            member = tarfile.TarInfo("a/link")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        with pytest.raises(DiskHlocError) as error:
            unpack(archive, out)
        assert one_line_error(error, archive, "a/link", "neither a file")
    add_tar(archive, {"a/b/c": b"4" * 10_000})
    with pytest.raises(DiskHlocError, match="empty below 3 folders"):
        unpack(archive, out, 3)
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(DiskHlocError) as error:
        unpack(archive, out, 2)
    assert one_line_error(error, archive, "not a whole tar archive", "remove it")
    assert not (out / "c").exists()


def test_unpacked_files_replace_existing_ones(tmp_path: Path) -> None:
    add_tar(tmp_path / "a.tar.gz", {"x/scene/new": b"1"})
    (tmp_path / "out" / "scene").mkdir(parents=True)
    (tmp_path / "out" / "scene" / "old").touch()
    assert unpack(tmp_path / "a.tar.gz", tmp_path / "out", 1) == ["scene"]
    assert [path.name for path in (tmp_path / "out" / "scene").iterdir()] == ["new"]
