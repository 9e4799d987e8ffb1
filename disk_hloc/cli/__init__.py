"""The command ``disk-hloc``: it parses and calls, shows errors in one line, and sets exit codes."""

from __future__ import annotations

import sys
import traceback
from typing import NoReturn

from disk_hloc import __version__
from disk_hloc.errors import DiskHlocError, Exit, of_the_machine
from disk_hloc.log import show_logs

from . import stopping


def main() -> None:
    """Run the command. An error that the user can fix becomes one line and an exit code."""
    show_logs()
    try:
        with stopping.on_signals():
            # Imported here: Ctrl-C may come while it takes its quarter of a second.
            from .commands import app

            app()
    except DiskHlocError as error:
        _end(str(error), error.exit_code)
    except SystemExit as end:
        stopping.say(end.code)
        raise
    except Exception as error:  # noqa: BLE001 - what is not of the machine is a bug
        reason = of_the_machine(error)
        if reason is not None:
            _end(reason, Exit.ERROR)
        traceback.print_exc()
        _end(f"a bug in disk_hloc {__version__}: please report it with the lines above", Exit.BUG)


def _end(message: str, code: Exit) -> NoReturn:
    """End with one line; unprintable characters, such as line breaks in a name, are escaped."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    print(f"Error: {shown}", file=sys.stderr)
    sys.exit(code)
