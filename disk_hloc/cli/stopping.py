"""How the command stops: at Ctrl-C, SIGTERM and SIGHUP, within two seconds.

The first signal raises KeyboardInterrupt, which unwinds the command; later ones are ignored. Where
that takes too long, because a library does not return or catches the exception, the process ends
without it: whatever is on disk survives a kill.
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

from disk_hloc.errors import Exit
from disk_hloc.log import logger

UNWIND_SECONDS = 1.5

_CODES = {"SIGINT": Exit.INTERRUPTED, "SIGTERM": Exit.TERMINATED, "SIGHUP": Exit.TERMINATED}
_WORDS = {Exit.INTERRUPTED: "Interrupted", Exit.TERMINATED: "Terminated"}


@contextmanager
def on_signals() -> Iterator[None]:
    """Stop the block at a signal, and raise SystemExit with the exit code for it.

    What the block raises after a signal is due to it, whatever it is: libraries turn a
    KeyboardInterrupt into other errors. Signals that are ignored, as under nohup, stay so. In
    another thread than the main one, where Python handles no signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop()
    try:
        stop.start()
        yield
    except KeyboardInterrupt:
        stop.code = stop.code or Exit.INTERRUPTED
        raise
    finally:
        if stop.code is None:
            stop.restore()
        else:
            # What fails from here on does so because of the end.
            sys.unraisablehook = lambda _: None
            threading.excepthook = lambda _: None
            # The deadline holds for the interpreter's own end, too: it waits for threads.
            raise SystemExit(stop.code) from None


def say(code: int | str | None) -> None:
    """Say once that the command was stopped, if that is what an exit code means."""
    if isinstance(code, Exit | int) and code in _WORDS and not _said.is_set():
        _said.set()
        word = _WORDS[Exit(code)]
        logger.warning("%s. Finished work is kept: run the same command to resume.", word)


_said = threading.Event()


class _Stop:
    """The handlers of the signals while a command runs.

    Attributes:
        code: the exit code, once a signal has come.
        raised: whether KeyboardInterrupt was raised for it here; a function that has a handler of
            its own, such as training, does so itself.
    """

    def __init__(self) -> None:
        self.code: Exit | None = None
        self.raised = False
        _said.clear()
        self.pid = os.getpid()
        self.before = {}
        for name in _CODES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self.before[number] = signal.getsignal(number)
        # Python's handlers run between two steps of the main thread, which may be far away. The
        # byte of a signal is sent at once.
        self.receiver, self.sender = socket.socketpair()
        self.sender.setblocking(False)
        self.finder = _AfterPycolmap(self.install)
        self.wakeup_before = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)

    def start(self) -> None:
        """Install the handlers, and wait for signals in a thread."""
        self.install()
        threading.Thread(target=self._wait, daemon=True).start()
        sys.meta_path.insert(0, self.finder)
        atexit.register(self._end)
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self.restore)

    def install(self) -> None:
        """Install the handlers, again where a library has installed its own."""
        with suppress(ValueError):  # in another thread
            for number in self.before:
                signal.signal(number, self._raise)

    def restore(self) -> None:
        """Leave the signals as they were, also in a forked child: it shares the socket."""
        if self.receiver.fileno() < 0:
            return
        atexit.unregister(self._end)
        signal.set_wakeup_fd(self.wakeup_before)
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        with suppress(ValueError):
            sys.meta_path.remove(self.finder)
        self.sender.close()
        if os.getpid() == self.pid:
            self.receiver.shutdown(socket.SHUT_RDWR)
        self.receiver.close()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.code = self.code or _CODES[signal.Signals(number).name]
        if not self.raised:
            self.raised = True
            raise KeyboardInterrupt

    def _end(self) -> None:
        """End the process after the functions that libraries registered for its end.

        What the interpreter does then takes long with large libraries, and is of no use.
        """
        if self.code is not None:
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(self.code)

    def _wait(self) -> None:
        """End the process some time after a signal."""
        if hasattr(signal, "pthread_sigmask"):
            # No handler of a library is to run in this thread.
            signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in _CODES])
        with suppress(OSError):
            while received := self.receiver.recv(1):
                if received[0] in self.before:
                    code = self.code = self.code or _CODES[signal.Signals(received[0]).name]
                    time.sleep(UNWIND_SECONDS)
                    # In another thread: a full pipe or a lock of the log may block.
                    saying = threading.Thread(target=say, args=(code,), daemon=True)
                    saying.start()
                    saying.join(UNWIND_SECONDS / 10)
                    os._exit(code)


class _AfterPycolmap(importlib.abc.MetaPathFinder):
    """Call a function after pycolmap's import, which installs a handler of SIGTERM.

    That handler prints a stack trace of C++, and allocates memory: it can hang. So signals wait
    while pycolmap's library is loaded.
    """

    def __init__(self, install: Callable[[], None]) -> None:
        self.install = install
        self.left = {"pycolmap", "pycolmap._core"}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.left:
            return None
        self.left.discard(name)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _blocked():
                    execute(module)
                    self.install()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def _blocked() -> Iterator[None]:
    """Let signals wait, in this thread."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    numbers = [getattr(signal, name) for name in _CODES]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
