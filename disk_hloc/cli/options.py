"""The option ``--on-error`` of the command line: the same wherever photos or features are read."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class OnError(str, Enum):
    """What to do at an image that cannot be read."""

    skip = "skip"
    stop = "stop"


OnErrorOption = Annotated[
    OnError,
    typer.Option(help="An image that cannot be read: go on and name it last, or stop there."),
]
