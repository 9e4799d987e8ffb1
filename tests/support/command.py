"""The command line, run in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import disk_hloc.cli as cli
from disk_hloc.log import logger


class Command:
    """Runs the command in this process, with a folder as the current one."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch
        monkeypatch.chdir(folder)
        # A handler of an earlier test writes to that test's output.
        monkeypatch.setattr(logger, "handlers", [])

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command; return its exit code and what it wrote to stdout and stderr."""
        self.monkeypatch.setattr(sys, "argv", ["disk-hloc", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *self.capsys.readouterr()

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Run the command; return its exit code and what it wrote to stderr."""
        code, _, shown = self.run(*arguments)
        return code, shown

    def refused(self, *arguments: str) -> str:
        """Run the command; return the one line of its error."""
        code, shown = self(*arguments)
        assert code == 1, shown
        assert "Traceback" not in shown
        last = shown.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        return last
