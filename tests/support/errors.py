"""Checks of errors."""

from __future__ import annotations

import pytest


def one_line_error(error: pytest.ExceptionInfo[Exception], *parts: object) -> bool:
    """Check that the message of an error is one line that contains all ``parts``."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
    return True
