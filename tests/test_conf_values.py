"""Values of confs: types and ranges, in one line that says what is expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disk_hloc import confs, models
from disk_hloc.confs import (
    NAME_OR_PATH,
    TRUE_OR_FALSE,
    number,
    one_of,
    or_null,
    require_values,
    whole_number,
)
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.loader import DEFAULT_PREPROCESSING, PREPROCESSING_VALUES, load_photo
from disk_hloc.plugin import find_conf
from support.errors import one_line_error

KINDS = ("extractors", "matchers", "dense")


@pytest.mark.parametrize(
    ("value", "accepted", "refused"),
    [
        (whole_number(1), [1, 5000, np.int64(3)], [0, -1, True, 1.0, "1e3", None, [1]]),
        (whole_number(1, odd=True), [1, 5], [2, 0, True, None]),
        (number(), [0, -1, 0.5, np.float32(2)], [float("nan"), float("inf"), "abc", True, None]),
        (number(0, 1), [0, 1, 0.5], [-0.1, 1.1]),
        (or_null(number(0)), [None, 0, 2.5], [-1, "null", False]),
        (TRUE_OR_FALSE, [True, False], [0, 1, "yes", None]),
        (one_of("a", "b"), ["a", "b"], ["c", None, 1, ["a"], {}]),
        (NAME_OR_PATH, ["depth", Path("a.pth")], [None, "", 3, True, ["a"]]),
    ],
)
def test_what_is_accepted(value, accepted, refused):
    for given in accepted:
        require_values({"key": given, "other": object()}, {"key": value}, "the conf")
    for given in refused:
        with pytest.raises(DiskHlocError) as error:
            require_values({"key": given}, {"key": value}, "the conf x.yaml")
        assert one_line_error(error, "the conf x.yaml has key: ", f"expected {value.expected}")


def test_long_values_are_shortened():
    with pytest.raises(DiskHlocError) as error:
        require_values({"a": "x\ny " * 1000}, {"a": number()}, "it")
    assert len(str(error.value)) < 120
    assert one_line_error(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_every_model_is_checked_and_its_default_passes(kind):
    for name in models.names(kind):
        model = models.load(kind, name)
        values = model.values()
        assert list(values) == list(model.default_conf)
        require_values(model.default_conf, values, name)


def test_packaged_confs_pass():
    for kind in KINDS:
        for conf in confs.packaged(kind).values():
            model = conf["model"]
            require_values(model, models.load(kind, model["name"]).values(), model["name"])
            require_values(conf.get("preprocessing", {}), PREPROCESSING_VALUES, model["name"])
    assert list(PREPROCESSING_VALUES) == list(DEFAULT_PREPROCESSING)
    require_values(DEFAULT_PREPROCESSING, PREPROCESSING_VALUES, "the defaults")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_keypoints", -1),
        ("max_keypoints", "1e3"),
        ("max_keypoints", True),
        ("detection_threshold", "abc"),
        ("weights", None),
        ("nms_window_size", None),
        ("nms_window_size", 4),
        ("precision", 16),
        ("subpixel", "yes"),
    ],
)
def test_a_model_is_not_made_of_impossible_values(key, value):
    with pytest.raises(DiskHlocError) as error:
        models.load("extractors", "disk")({"name": "disk", key: value})
    assert one_line_error(error, f"model disk has {key}: ", "expected")


@pytest.mark.parametrize(
    ("key", "value"),
    [("resize_max", -5), ("resize_max", "abc"), ("grayscale", 1), ("interpolation", "cv2_max")],
)
def test_a_photo_is_not_read_with_impossible_values(tmp_path, key, value):
    with pytest.raises(DiskHlocError) as error:
        load_photo(tmp_path, "a.jpg", {key: value})
    assert one_line_error(error, f"preprocessing has {key}: ", "expected")


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("extractors", "model: {name: disk, max_keypoints: -1}\npreprocessing: {}", "model"),
        ("extractors", "model: {name: disk}\npreprocessing: {resize_max: abc}", "preprocessing"),
        ("matchers", "model: {name: disk, ratio_threshold: x}", "model"),
        ("global", "model: {name: disk_vlad, clusters: 1.5}", "model"),
        ("dense", "model: {name: kornia_loftr}\npreprocessing: {}\ncell_size: 0", "cell_size"),
    ],
)
def test_the_error_names_the_file(tmp_path, kind, text, said):
    path = tmp_path / "conf.yaml"
    path.write_text(f"output: x\n{text}\n")
    with pytest.raises(DiskHlocError) as error:
        find_conf(kind, str(path))
    assert one_line_error(error, path, said, "expected a")


def test_confs_of_hlocs_models_are_not_checked(tmp_path):
    path = tmp_path / "conf.yaml"
    path.write_text("output: x\nmodel: {name: superpoint, max_keypoints: -1}\npreprocessing: {}\n")
    assert find_conf("extractors", str(path))["model"]["max_keypoints"] == -1
