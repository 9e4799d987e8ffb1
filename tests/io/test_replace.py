"""JSON files that any reader takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from disk_hloc.io.replace import replace_json


def test_numbers_that_json_does_not_have_become_null(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    numbers = [1, 2.5, float("-inf"), (np.float64("nan"), "NaN")]
    content = {"a": float("nan"), "b": numbers, "c": {"d": True}}
    replace_json(path, content)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"a": None, "b": [1, 2.5, None, [None, "NaN"]], "c": {"d": True}}


def test_an_error_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    replace_json(path, {"a": 1})
    with pytest.raises(TypeError):
        replace_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
