"""What tests ask of errors."""

from __future__ import annotations

import pytest


def one_line_error(error: pytest.ExceptionInfo[Exception], *parts: object) -> bool:
    """Whether an error is one line that holds all ``parts``; it fails with what it holds."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
    return True
