"""Calls of COLMAP in a process of their own.

COLMAP's functions return only when they are done, can abort the process, and importing pycolmap
installs signal handlers of its own. In a child process such a call can be stopped at any moment,
and its crash is an error. The child is a fresh interpreter: a fork would copy torch's threads, and
multiprocessing would import the user's script again.

The parent sends a pickled call to the child's stdin. The child sends pickled messages to its
stdout: log records, text for stdout and stderr (progress bars), and last the result or the error.
"""

from __future__ import annotations

import ctypes
import io
import logging
import logging.handlers
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from disk_hloc.errors import DiskHlocError, of_the_machine
from disk_hloc.log import logger

from .log import log_to

A = TypeVar("A")
T = TypeVar("T")

# sys.path comes first, so that nothing is imported from the current folder by accident.
_START = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve()"
# The lines of COLMAP's output that are searched for the reason of a crash.
_KEPT_LINES = 50
_END_SECONDS = 5
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def call(
    function: Callable[..., T],
    *args: Any,
    task: str,
    log_dir: Path,
    verbose: bool = False,
    **kwargs: Any,
) -> T:
    """Call a function in a child process, and wait for it.

    Log records of this package, progress bars and other text on stdout and stderr appear as if the
    function had been called here. When the wait is interrupted, the child is killed; it also ends
    when this process does. Ctrl-C and SIGTERM are for this process alone: the child blocks them.

    Args:
        function: one that the child can import.
        args, kwargs: its arguments; they and its result are pickled.
        task: what is being done, for error messages: ``"mapping the images of sfm"``.
        log_dir: where COLMAP's log is written.
        verbose: show COLMAP's log on stderr, too.

    Returns:
        What the function returns.

    Raises:
        DiskHlocError: the child crashed, was killed, or ran out of memory.
        Exception: whatever the function raises, with the child's traceback as its cause.
    """
    with _child(verbose) as child:
        return _answer(child, function, args, kwargs, task, log_dir, verbose)


def call_each(
    function: Callable[[A], T],
    arguments: Sequence[A],
    *,
    task: Callable[[A], str],
    log_dir: Callable[[A], Path],
    at_most: int,
) -> Iterator[tuple[A, T]]:
    """Call a function with each of several arguments, each in a child process.

    Args:
        function: one that the child can import.
        arguments: what it is called with, in this order.
        task, log_dir: of a call, by its argument; see :func:`call`.
        at_most: how many children there are at a time.

    Yields:
        An argument and what the function returned for it, as the calls end.

    Raises:
        DiskHlocError, Exception: as :func:`call`. All other children are killed then, as they are
            when the wait is interrupted.
    """
    children: set[subprocess.Popen[bytes]] = set()
    stopped = threading.Event()

    def one(argument: A) -> T:
        with _child(verbose=False) as child:
            children.add(child)
            if stopped.is_set():
                child.kill()
            return _answer(
                child, function, (argument,), {}, task(argument), log_dir(argument), False
            )

    threads = ThreadPoolExecutor(at_most)
    try:
        futures = {threads.submit(one, argument): argument for argument in arguments}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        stopped.set()
        for child in list(children):
            child.kill()
        threads.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _child(verbose: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child, and see to its end."""
    start = _START.format(path=[str(entry) for entry in sys.path], module=__name__)
    with _signals_blocked():
        child = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.PIPE,
            env={**os.environ, **_terminal_size()},
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):  # of what a dead child has not read
                    pipe.close()


def _answer(
    child: subprocess.Popen[bytes],
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    task: str,
    log_dir: Path,
    verbose: bool,
) -> T:
    """Send a call to a child, and wait for its result; see :func:`call`."""
    assert child.stdin is not None
    assert child.stdout is not None
    # COLMAP's output, read to its end: a full pipe would block the child.
    output: deque[bytes] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=output.extend, args=(child.stderr or (),), daemon=True)
    reader.start()
    outcome = None
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    settings = (os.getpid(), logger.getEffectiveLevel(), log_dir, verbose, encoding)
    with suppress(BrokenPipeError):  # it has died; the reason is told below
        child.stdin.write(pickle.dumps((settings, function, args, kwargs)))
        child.stdin.flush()
    for kind, value in _messages(child.stdout):
        if kind == "log":
            logger.handle(value)
        elif kind == "text":
            _write(*value)
        else:
            outcome = kind, value
            break
    # It ends by itself, for COLMAP's log to be complete.
    with suppress(subprocess.TimeoutExpired):
        child.wait(_END_SECONDS)
    if outcome is None:
        reader.join(_END_SECONDS)
        child.kill()
        child.wait()
        lines = [line.decode(errors="replace") for line in output]
        _raise_crash(f"{task} failed", child.returncode, lines, f"COLMAP's log is in {log_dir}")
    kind, value = outcome
    if kind == "error":
        error, text = value
        raise error from _ChildTraceback(text)
    return value


class _ChildTraceback(Exception):
    """The traceback of an error in the child."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Have a child that is started here block the signals that stop a command, from its start.

    Ctrl-C goes to all processes of a terminal, and the handlers that pycolmap installs print a
    stack trace of C++ and may hang.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    stopping = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminal_size() -> dict[str, str]:
    """Return the variables that tell progress bars in the child how wide the terminal is."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # closed, replaced, or not a terminal
        return {}
    return {"COLUMNS": str(size.columns), "LINES": str(size.lines)}


def _messages(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    while True:
        try:
            yield pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):  # a message that is cut off: it was killed
            return


def _write(stream: str, text: str) -> None:
    """Write text to ``sys.stdout`` or ``sys.stderr``, which are None where they are closed."""
    target = getattr(sys, stream)
    if target is not None:
        target.write(text)
        target.flush()


def _raise_crash(failed: str, returncode: int, output: list[str], hint: str) -> NoReturn:
    """Raise the error for a child that ended without a result."""
    reason = _reason(output)
    of_machine = of_the_machine(RuntimeError(reason))
    if of_machine is not None:
        raise DiskHlocError(f"{failed}: {of_machine}")
    if returncode == -9:
        raise DiskHlocError(
            f"{failed}: its process was killed (SIGKILL), as Linux does when memory runs out; "
            f"{hint}"
        )
    if returncode < 0:
        name = signal.Signals(-returncode).name
        raise DiskHlocError(f"{failed}: COLMAP crashed ({name}{reason and f': {reason}'}); {hint}")
    said = "".join(output)
    raise RuntimeError(f"{failed}: its process ended with code {returncode}:\n{said}")


def _reason(output: list[str]) -> str:
    """What COLMAP or the C++ library said before it gave up, or an empty string."""
    for mark in ("Check failed:", "what():", "terminate called"):
        for line in output:
            if mark in line:
                return " ".join(line[line.index(mark) :].split())[:200]
    return ""


def serve() -> None:
    """Run the call that is read from stdin: the whole life of a child."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what C++ prints goes where its errors go
    lock = threading.Lock()

    def send(kind: str, value: Any) -> None:
        message = pickle.dumps((kind, value))
        with lock:
            channel.write(message)
            channel.flush()

    settings, function, args, kwargs = pickle.load(sys.stdin.buffer)
    parent, level, log_dir, verbose, encoding = settings
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _CRASHES:
        # pycolmap's handlers print a stack trace of C++; the parent reports the crash.
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.stdout = _Forwarded("stdout", encoding, send)
    sys.stderr = _Forwarded("stderr", encoding, send)
    logger.handlers = [_LogSender(send)]
    logger.propagate = False
    logger.setLevel(level)
    try:
        with log_to(log_dir, verbose):
            result = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - the parent raises it again
        send("error", (_picklable(error), traceback.format_exc()))
    else:
        send("result", result)


def _end_with(parent: int) -> None:
    """Have this process end when its parent does, however that ends."""
    if sys.platform == "linux":
        # At once, also while COLMAP holds Python's lock.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Forwarded(io.TextIOBase):
    """A text stream whose text the parent writes."""

    def __init__(self, stream: str, encoding: str, send: Callable[[str, Any], None]) -> None:
        self.stream, self.send = stream, send
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the parent's stream: tqdm asks which characters it may use."""
        return self._encoding

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.send("text", (self.stream, text))
        return len(text)


class _LogSender(logging.handlers.QueueHandler):
    """Send log records to the parent, with their text formatted."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(queue=None)  # type: ignore[arg-type]
        self.send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self.send("log", record)


def _picklable(error: BaseException) -> BaseException:
    """The error, or one with the same text if it cannot be sent."""
    try:
        sent = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error class may have a constructor of any kind
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if str(sent) == str(error) else RuntimeError(f"{type(error).__name__}: {error}")
