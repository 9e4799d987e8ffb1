"""The command is stopped by signals: always within two seconds, and never with a stack trace."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from disk_hloc.cli import stopping

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")

SCRIPT = """
import hashlib, os, random, signal, sys, time
import disk_hloc.cli as cli
import disk_hloc.cli.commands as commands

def ready():
    print("ready", flush=True)

def app():
{body}

commands.app = app
cli.main()
"""
BODIES = {
    "a loop in Python": "ready()\nwhile True: pass",
    "a loop that allocates memory, after pycolmap's import": (
        "import pycolmap\nready()\n"
        "while True: [bytearray(random.randrange(20000)) for _ in range(99)]"
    ),
    "a call that does not return": "ready()\nhashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "an exception that is caught": (
        "ready()\nwhile True:\n try: time.sleep(60)\n except KeyboardInterrupt: pass"
    ),
    "an exception that becomes another one": (
        "try: ready(); time.sleep(60)\nexcept KeyboardInterrupt: raise RuntimeError('of C++')"
    ),
    "an end that does not come": (
        "import threading\n"
        "threading.Thread(target=time.sleep, args=(60,)).start(); ready(); time.sleep(60)"
    ),
}


def start(body: str, **options: object) -> subprocess.Popen[str]:
    """Start a command that runs some lines, and wait until they print that they are ready."""
    script = SCRIPT.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def errors_of(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command; one that does not end must not go on for ever."""
    try:
        return process.communicate(timeout=10)[1]
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "Interrupted"),
        (signal.SIGTERM, 143, "Terminated"),
        (signal.SIGHUP, 143, "Terminated"),
    ],
)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_signal_ends_the_command(body: str, number: int, code: int, word: str) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the tests run under nohup, which ignores this signal")
    process = start(body)
    begin = time.monotonic()
    process.send_signal(number)
    errors = errors_of(process)
    assert time.monotonic() - begin < 2.5  # half a second for a busy machine
    assert process.returncode == code
    assert f"{word}. Finished work is kept" in errors
    assert len(errors.splitlines()) == 1


def test_sigterm_never_hangs() -> None:
    body = BODIES["a loop that allocates memory, after pycolmap's import"]
    for _ in range(25):
        process = start(body)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 143
        assert "***" not in errors


def test_more_signals_do_not_disturb_the_unwinding(tmp_path: Path) -> None:
    body = (
        "try: ready(); time.sleep(60)\n"
        "finally: print('unwinding', flush=True); time.sleep(0.5); open('kept', 'w').close()"
    )
    process = start(body, cwd=tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "unwinding\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert (tmp_path / "kept").exists()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = start("ready(); time.sleep(1)")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_forked_child_has_the_usual_handlers() -> None:
    body = (
        "pid = os.fork()\n"
        "if not pid: time.sleep(60); os._exit(3)\n"
        "time.sleep(0.2); os.kill(pid, signal.SIGTERM); status = os.waitpid(pid, 0)[1]\n"
        "ready(); time.sleep(2); sys.exit(os.waitstatus_to_exitcode(status) + 100)"
    )
    process = start(body)
    process.communicate(timeout=10)
    assert process.returncode == 100 - signal.SIGTERM  # the parent is not stopped by it


def test_the_handlers_are_restored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    finders = list(sys.meta_path)
    with stopping.on_signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in numbers] == before
    assert sys.meta_path == finders
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert wakeup == -1


def test_what_was_registered_for_the_end_is_called(tmp_path: Path) -> None:
    body = (
        "import atexit; atexit.register(lambda: open('called', 'w').close())\nready()\n"
        "time.sleep(60)"
    )
    process = start(body, cwd=tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert (tmp_path / "called").exists()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot wait here")
def test_a_signal_waits_while_pycolmap_is_imported(tmp_path: Path) -> None:
    # A package of this name, with a signal just after its library has installed a handler.
    package = tmp_path / "pycolmap"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _core\n")
    (package / "_core.py").write_text(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    body = f"sys.path.insert(0, {str(tmp_path)!r}); ready(); import pycolmap; time.sleep(60)"
    process = start(body)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert len(errors.splitlines()) == 1
