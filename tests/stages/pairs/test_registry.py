"""The methods for pairs by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from disk_hloc import confs
from disk_hloc.errors import DiskHlocError
from disk_hloc.stages import pairs
from support.errors import one_line_error


def test_an_unknown_method_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DiskHlocError, match="known: auto, exhaustive, retrieval, sequential"):
        pairs.main("psychic", tmp_path, tmp_path / "pairs.txt")


def test_every_method_has_a_conf_and_every_conf_a_method() -> None:
    packaged = confs.packaged("pairs")
    methods = {name: method for name, method in pairs.METHODS.items() if not method.of_model}
    assert list(packaged) == list(methods)
    for name, conf in packaged.items():
        assert conf["output"] == f"pairs-{name}"
        assert list(conf["model"]) == ["name", *methods[name].values]
        confs.require_values(conf["model"], methods[name].values, name)


def test_retrieval_without_descriptors_says_how_to_make_them(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(DiskHlocError) as error:
        pairs.main("retrieval", tmp_path, tmp_path / "pairs.txt", num_matched=3)
    assert one_line_error(error, "disk-hloc describe", "--descriptors")
