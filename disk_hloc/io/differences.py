"""Where two confs or settings differ, for messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# A longer value is shortened.
_MAX_LENGTH = 60


def differences(former: Any, now: Any) -> list[str]:
    """Return the values that differ between two pieces of plain data.

    Args:
        former: what was noted: numbers, strings, lists and mappings.
        now: likewise, what holds now.

    Returns:
        A string for each value, such as ``model.max_keypoints 500, now 300``.
    """
    return list(_differences("", former, now))


def _differences(key: str, former: Any, now: Any) -> Iterator[str]:
    if isinstance(former, Mapping) and isinstance(now, Mapping):
        for name in sorted(former.keys() | now.keys(), key=str):
            inner = f"{key}.{name}" if key else str(name)
            if name not in former:
                yield f"{inner} not set, now {_shown(now[name])}"
            elif name not in now:
                yield f"{inner} {_shown(former[name])}, now not set"
            else:
                yield from _differences(inner, former[name], now[name])
    elif former != now:
        yield f"{key} {_shown(former)}, now {_shown(now)}".strip()


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} values"
    shown = str(value)
    return shown if len(shown) <= _MAX_LENGTH else f"{shown[:_MAX_LENGTH]}..."
