"""Errors of hloc's own models that are not bugs; runs of them are in test_hloc_engine.py."""

from __future__ import annotations

import importlib

import pytest

from disk_hloc.errors import DiskHlocError
from disk_hloc.stages.through_hloc import needed_packages
from support.errors import one_line_error


def test_the_package_that_a_model_needs_is_named() -> None:
    conf = {"model": {"name": "superglue"}}
    with pytest.raises(DiskHlocError) as error, needed_packages(conf):
        importlib.import_module("a_network_of_theirs.models")
    assert one_line_error(error, "superglue", "a_network_of_theirs", "third_party")
    # A module that is missing here is a bug.
    with pytest.raises(ModuleNotFoundError), needed_packages(conf):
        importlib.import_module("disk_hloc.no_such_module")
