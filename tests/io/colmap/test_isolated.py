"""Calls in a process of their own, on real child processes."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from disk_hloc.errors import Busy, DiskHlocError
from disk_hloc.io.colmap import isolated
from disk_hloc.log import logger


def add(a: int, b: int = 0) -> tuple[int, int, str, str]:
    return os.getpid(), a + b, os.getcwd(), os.environ.get("DISK_HLOC_MAX_PIXELS", "")


def talk() -> None:
    logger.info("%d pairs", 3)
    print("on stdout")
    print("on stderr", file=sys.stderr, end="\r")
    os.write(2, b"from C++\n")


def fail(error: Exception) -> None:
    raise error


def die(number: int) -> None:
    os.write(2, b"terminate called\n  what():  vocabulary too large\n")
    os.kill(os.getpid(), number)
    time.sleep(60)


def abort_of_cpp() -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    ctypes.CDLL(None).abort()


def leave() -> None:
    os._exit(7)


def sleep_in_c(pid_path: Path) -> None:
    """Hold Python's lock, as some of pycolmap's functions do."""
    pid_path.write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(60)


class Odd(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def test_a_call_has_its_arguments_and_this_process_s_surroundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # A file that would be imported in place of the standard library's.
    Path("pickle.py").write_text("raise SystemExit('wrong module')")
    monkeypatch.setenv("DISK_HLOC_MAX_PIXELS", "77")
    pid, total, folder, pixels = isolated.call(add, 2, b=3, task="adding", log_dir=Path())
    assert pid != os.getpid()
    assert (total, folder, pixels) == (5, str(tmp_path), "77")


def test_logs_and_text_appear_here(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="disk_hloc"):
        isolated.call(talk, task="talking", log_dir=Path())
    assert caplog.messages == ["3 pairs"]
    assert capfd.readouterr() == ("on stdout\n", "on stderr\r")
    isolated.call(talk, task="talking", log_dir=Path(), verbose=True)
    assert "from C++" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [DiskHlocError("no pairs"), Busy("locked"), OSError(28, "No space left on device")]
)
def test_an_error_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error).replace("[", r"\[")) as raised:
        isolated.call(fail, error, task="failing", log_dir=Path())
    assert type(raised.value) is type(error)
    assert "in fail" in str(raised.value.__cause__)


def test_an_error_that_cannot_be_sent_keeps_its_text() -> None:
    with pytest.raises(RuntimeError, match="Odd: this and that"):
        isolated.call(fail_oddly, task="failing", log_dir=Path())


def fail_oddly() -> None:
    raise Odd("this", "that")


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (die, (signal.SIGSEGV,), r"crashed \(SIGSEGV: what\(\): vocabulary too large\)"),
        (die, (signal.SIGKILL,), "killed .* memory runs out"),
        (abort_of_cpp, (), "not enough memory"),
    ],
)
def test_a_crash_is_an_error_of_one_line(function, arguments, message, capfd) -> None:
    with pytest.raises(DiskHlocError, match=f"mapping failed.*{message}") as raised:
        isolated.call(function, *arguments, task="mapping", log_dir=Path())
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


def test_a_child_that_just_leaves_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="code 7"):
        isolated.call(leave, task="leaving", log_dir=Path())


SCRIPT = """
# No `if __name__ == "__main__"`: the child must not run this script again.
import signal, sys
from pathlib import Path
from disk_hloc.io.colmap import isolated
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pycolmap has installed its own
sys.path.insert(0, {folder!r})
import test_isolated
print("started", flush=True)
try:
    isolated.call(test_isolated.sleep_in_c, Path(sys.argv[1]), task="sleeping", log_dir=Path())
except KeyboardInterrupt:
    sys.exit(130)
"""


def runs(pid: int) -> bool:
    """Whether a process runs: an orphan that ended may wait long for somebody to take notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "to_group", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, True, -15), (signal.SIGKILL, False, -9)],
)
def test_the_child_ends_with_its_parent(
    number: int, to_group: bool, code: int, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(folder=str(Path(__file__).parent))))
    pid_path = tmp_path / "pid"
    process = subprocess.Popen(
        [sys.executable, script, pid_path],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (pid_path.exists() and pid_path.read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    child = int(pid_path.read_text())
    start = time.monotonic()
    (os.killpg if to_group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert out == "started\n"
    assert err == ""
    while runs(child):
        time.sleep(0.01)
        assert time.monotonic() - start < 2


def double(number: int) -> int:
    return 2 * number


def first_fails(folder: Path) -> None:
    """Fail at once in the folder "bad", and sleep in all others."""
    if folder.name == "bad":
        raise ValueError("a bad folder")
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)


def each_of(folders: list[Path]):
    return isolated.call_each(
        first_fails, folders, task=str, log_dir=lambda folder: folder, at_most=len(folders)
    )


def test_each_argument_is_called(tmp_path: Path) -> None:
    found = isolated.call_each(double, [1, 2, 3], task=str, log_dir=lambda _: tmp_path, at_most=2)
    assert dict(found) == {1: 2, 2: 4, 3: 6}


def test_the_others_are_killed_when_one_fails(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("bad", "good")]
    for folder in folders:
        folder.mkdir()
    start = time.monotonic()
    with pytest.raises(ValueError, match="a bad folder"):
        list(each_of(folders))
    assert time.monotonic() - start < 30
    assert_ended(tmp_path / "good" / "pid")


def test_all_are_killed_when_the_wait_is_interrupted(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(each_of([tmp_path]))
    thread.join()
    assert time.monotonic() - start < 30
    assert_ended(tmp_path / "pid")


def assert_ended(pid_path: Path) -> None:
    """Check that the process is gone that wrote its number to a file, if it came to that."""
    if pid_path.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_path.read_text()), 0)
