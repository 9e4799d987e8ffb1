"""`python -m disk_hloc.plugin MODULE ...`: hloc's command lines with our confs as choices."""

from __future__ import annotations

import ast
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from disk_hloc.errors import DiskHlocError
from disk_hloc.log import show_logs

from . import hloc_module, register

USAGE = """\
usage: python -m disk_hloc.plugin MODULE [options of the module, such as -h]

Runs `python -m hloc.MODULE` with our models and confs among its choices, for example
  python -m disk_hloc.plugin extract_features --conf disk --image_dir IMAGES --export_dir OUT
  python -m disk_hloc.plugin match_features --conf disk --features feats-disk --pairs PAIRS.txt \\
      --export_dir OUT
"""


def commands(hloc: ModuleType) -> list[str]:
    """Return the names of hloc's modules that have a command line."""
    return [
        module.name
        for module in pkgutil.iter_modules(hloc.__path__)
        if _main_block(Path(next(iter(hloc.__path__)), f"{module.name}.py"))
    ]


def run(name: str, arguments: list[str]) -> None:
    """Run what a module of hloc does as ``python -m hloc.NAME ARGUMENTS``.

    Its ``if __name__ == "__main__":`` block is run with the names of the module as imported,
    where our confs are; ``python -m`` would load the module again, without them.

    Args:
        name: of the module.
        arguments: of its command line.

    Raises:
        DiskHlocError: the module does not exist or has no command line.
    """
    module = hloc_module(name, needed_for=f"the command {name}")
    path = Path(module.__file__ or "")
    block = _main_block(path)
    if not block:
        raise DiskHlocError(
            f"{module.__name__} has no command line; these have: {', '.join(commands(register()))}"
        )
    sys.argv = [f"python -m disk_hloc.plugin {name}", *arguments]
    code = compile(ast.Module(body=block, type_ignores=[]), str(path), "exec")
    exec(code, {**vars(module), "__name__": "__main__"})


def _main_block(path: Path) -> list[ast.stmt]:
    """Return the body of ``if __name__ == "__main__":``, or an empty list."""
    if not path.is_file():
        return []
    guard = "__name__ == '__main__'"
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == guard:
            return statement.body
    return []


def main() -> None:
    """Parse ``MODULE ARGUMENTS...`` and run it."""
    show_logs()
    arguments = sys.argv[1:]
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            hloc = register()
            print(f"{USAGE}\n{hloc.__name__} has: {', '.join(commands(hloc))}")
            sys.exit(0 if arguments else 2)
        run(arguments[0], arguments[1:])
    except DiskHlocError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
