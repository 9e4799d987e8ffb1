"""The packaged confs, and a user's own."""

from __future__ import annotations

import pytest
import yaml

from disk_hloc import confs, models
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import read_conf
from disk_hloc.plugin import find_conf
from support.errors import one_line_error

WHOLE = {
    "output": "feats-mine",
    "model": {"name": "disk", "max_keypoints": 7},
    "preprocessing": {"resize_max": 99},
}


def test_extractors_have_hlocs_form():
    found = confs.extractors()
    assert list(found) == [
        "disk",
        "disk-2k",
        "disk-epipolar",
        "aliked",
        "xfeat",
        "sift",
        "posfeat",
        "posfeat-hpatches",
        "posfeat-aachen",
        "posfeat-eth",
        "msnet",
        "cfe",
    ]
    for conf in found.values():
        assert set(conf) == {"output", "model", "preprocessing"}
        assert models.has("extractors", conf["model"]["name"])
        assert conf["preprocessing"]["grayscale"] is (conf is found["sift"])
    assert len({conf["output"] for conf in found.values()}) == len(found)


def test_disk_is_hlocs_own_conf_with_keypoints_between_pixels():
    assert confs.extractors()["disk"] == {
        "output": "feats-disk",
        "model": {"name": "disk", "max_keypoints": 5000, "subpixel": True, "precision": "auto"},
        "preprocessing": {"grayscale": False, "resize_max": 1600},
    }


def test_matchers_have_hlocs_form():
    found = confs.matchers()
    assert list(found) == [
        "disk",
        "disk-ratio",
        "disk+lightglue",
        "aliked+lightglue",
        "xfeat+lighterglue",
        "sift-ratio",
        "posfeat-ratio",
    ]
    for conf in found.values():
        assert set(conf) == {"output", "model"}
        assert models.has("matchers", conf["model"]["name"])
    assert found["disk"]["model"]["name"] == found["disk-ratio"]["model"]["name"] == "disk"
    assert found["disk"]["model"]["ratio_threshold"] is None
    assert found["disk-ratio"]["model"]["ratio_threshold"] == 0.95
    assert found["disk+lightglue"] == {
        "output": "matches-disk-lightglue",
        "model": {"name": "disk_lightglue"},
    }
    assert len({conf["output"] for conf in found.values()}) == len(found)


def test_global_descriptors_have_hlocs_form():
    found = confs.global_descriptors()
    assert list(found) == ["disk-vlad"]
    assert set(found["disk-vlad"]) == {"output", "model"}
    assert found["disk-vlad"]["output"] == "global-feats-disk-vlad"
    assert found["disk-vlad"]["model"]["name"] == "disk_vlad"
    found["disk-vlad"]["model"]["clusters"] = 1
    assert find_conf("global", "disk-vlad")["model"]["clusters"] == 64


def test_unknown_global_descriptor(tmp_path):
    with pytest.raises(DiskHlocError) as error:
        find_conf("global", "netvlad")
    assert one_line_error(
        error,
        "no global descriptor is called 'netvlad'",
        "known global descriptors: disk-vlad",
        "extractors",
        ".yaml",
    )
    path = tmp_path / "mine.yaml"
    path.write_text("output: mine\nmodel: {name: disk_vlad, clusters: 8}\n")
    assert find_conf("global", str(path))["model"]["clusters"] == 8
    path.write_text("model: {name: disk_vlad}\n")
    with pytest.raises(DiskHlocError, match="has no output"):
        find_conf("global", str(path))


@pytest.mark.parametrize("kind", ["extractors", "matchers"])
def test_dicts_are_fresh(kind):
    every = getattr(confs, kind)
    expected = every()
    changed = every()
    changed["disk"]["model"]["max_keypoints"] = 1
    changed["disk"]["output"] = "changed"
    del changed[list(changed)[1]]
    found = find_conf(kind, "disk")
    found["model"]["name"] = "changed"
    assert every() == expected
    assert find_conf(kind, "disk") == expected["disk"]


@pytest.mark.parametrize(
    ("kind", "known"),
    [("extractors", "disk, disk-2k, disk-epipolar"), ("matchers", "disk, disk-ratio, disk+light")],
)
def test_unknown_name_lists_the_known(kind, known):
    with pytest.raises(DiskHlocError) as error:
        find_conf(kind, "disc")
    assert one_line_error(error, f"no {kind[:-1]} is called 'disc'", known, ".yaml")


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_users_file(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    path.write_text(yaml.safe_dump(WHOLE))
    assert find_conf("extractors", str(path)) == WHOLE


@pytest.mark.parametrize("key", ["output", "model", "preprocessing"])
def test_missing_key(tmp_path, key):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in WHOLE.items() if k != key}))
    with pytest.raises(DiskHlocError) as error:
        find_conf("extractors", str(path))
    assert one_line_error(error, path, f"has no {key}")


@pytest.mark.parametrize(
    ("kind", "where", "key", "meant"),
    [
        ("extractors", "model", "max_keypoint", "max_keypoints"),
        ("extractors", "preprocessing", "resize_maximum", "resize_max"),
        ("extractors", "preprocessing", "max_keypoints", None),
        ("extractors", None, "max_keypoint", None),
        ("extractors", None, "preprocesing", "preprocessing"),
        ("matchers", "model", "ratio_treshold", "ratio_threshold"),
        ("matchers", None, "ratio_threshold", None),
        ("dense", "model", "match_treshold", "match_threshold"),
        ("dense", None, "cell_sizes", "cell_size"),
        ("dense", None, "max_error", None),
        ("global", "model", "cluster", "clusters"),
        ("global", None, "clusters", None),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path, kind, where, key, meant):
    conf = next(iter(confs.packaged(kind).values()))
    (conf[where] if where else conf)[key] = 5
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(conf))
    with pytest.raises(DiskHlocError) as error:
        find_conf(kind, str(path))
    assert one_line_error(error, path, f"unknown key {key!r}", "known keys: ")
    assert (f"did you mean {meant!r}?" in str(error.value)) == (meant is not None)
    if where:
        assert f"{where} of the conf" in str(error.value)


def test_keys_of_hlocs_own_models_are_left_to_hloc(tmp_path):
    conf = {
        "output": "feats-superpoint",
        "model": {"name": "superpoint", "nms_radius": 3},
        "preprocessing": {"grayscale": True, "globs": ["*.jpg"], "dfactor": 8, "fliplr": True},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(conf))
    assert find_conf("extractors", str(path)) == conf
    path.write_text(yaml.safe_dump({**conf, "max_keypoint": 5}))
    with pytest.raises(DiskHlocError, match="unknown key 'max_keypoint'"):
        find_conf("extractors", str(path))


@pytest.mark.parametrize("kind", ["extractors", "matchers", "dense", "global"])
def test_our_confs_have_known_keys_only(tmp_path, kind):
    for conf in confs.packaged(kind).values():
        path = tmp_path / "copy.yaml"
        path.write_text(yaml.safe_dump(conf))
        assert find_conf(kind, str(path)) == conf


@pytest.mark.parametrize("name", models.names("extractors") + models.names("matchers"))
def test_a_model_refuses_an_unknown_key(name):
    kind = "extractors" if models.has("extractors", name) else "matchers"
    model = models.load(kind, name)
    with pytest.raises(DiskHlocError) as error:
        model({"name": name, "max_keypoint": 5})
    assert one_line_error(error, f"model {name}", "unknown key 'max_keypoint'")


@pytest.mark.parametrize("model", ["disk", {"max_keypoints": 7}, None])
def test_model_without_name(tmp_path, model):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**WHOLE, "model": model}))
    with pytest.raises(DiskHlocError) as error:
        read_conf("extractors", path)
    assert one_line_error(error, path, "has no model: name")


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "disk", "3"])
def test_yaml_that_is_no_mapping(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(DiskHlocError) as error:
        read_conf("matchers", path)
    assert one_line_error(error, path, "is not a conf", "output, model")


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1,\nb: 2",
        b"a: b: c",
        b"\tmodel: 1",
        b"\x00",
        b"\xff\xfe\x00",
        b"? {a: b}\n: c",
        # Of yaml's types, but no such values.
        b"output: 2026-13-41",
        b"output: !!int five",
    ],
)
def test_broken_yaml(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(DiskHlocError) as error:
        read_conf("extractors", path)
    assert one_line_error(error, "cannot read the conf", path)


def test_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(DiskHlocError) as error:
            read_conf("extractors", path)
        assert one_line_error(error, "cannot read the conf", path)


@pytest.mark.parametrize(
    "call",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:subprocess.getoutput ['touch {}']",
    ],
)
def test_code_in_a_yaml_file_is_refused_and_not_run(tmp_path, call):
    touched = tmp_path / "touched"
    path = tmp_path / "mine.yaml"
    path.write_text(f"output: x\npreprocessing: {{}}\nmodel: {call.format(touched)}\n")
    # The file would do harm if it were trusted.
    yaml.load(path.read_text(), Loader=yaml.UnsafeLoader)
    assert touched.exists()
    touched.unlink()
    with pytest.raises(DiskHlocError) as error:
        read_conf("extractors", path)
    assert one_line_error(error, "cannot read the conf", path, "python/object")
    assert not touched.exists()


def test_our_confs_are_found_by_name() -> None:
    assert confs.find("extractors", "disk-2k") == confs.extractors()["disk-2k"]
    with pytest.raises(DiskHlocError, match=r"no conf of matchers is called 'glue'; known: disk"):
        confs.find("matchers", "glue")
