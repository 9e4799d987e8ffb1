"""Triangulation with known poses and localization in that model, by the installed engine."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pycolmap
import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.eval.localization import errors_of
from disk_hloc.io.hloc.poses import read_poses
from disk_hloc.plugin import engine, find_conf, find_provider
from disk_hloc.stages import localize, match, pairs, triangulate

ENGINES = [
    pytest.param("native", marks=pytest.mark.skipif(
        not engine.native_verdict().works, reason="needs a newer pycolmap")),
    pytest.param("hloc", marks=pytest.mark.skipif(
        find_provider() is None or not engine.hloc_verdict("localize").works,
        reason="needs hloc, and a pycolmap that it works with")),
]  # fmt: skip


@pytest.fixture(scope="module")
def dataset(data: Path) -> Path:
    return data / "mini_aachen"


@pytest.fixture(scope="module")
def files(dataset: Path, aachen_features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features, pairs and matches of model and queries."""
    folder = tmp_path_factory.mktemp("mini_aachen")
    (made,) = aachen_features.glob("*.h5")
    features = Path(shutil.copy(made, folder / "features.h5"))
    sfm = dataset / "3D-models" / "aachen_v_1_1"
    pairs.main("covisibility", sfm, folder / "pairs.txt", num_matched=20)
    names = sorted(image.name for image in pycolmap.Reconstruction(sfm).images.values())
    queries = sorted(read_poses(dataset / "queries" / "ground_truth.txt"))
    retrieved = "".join(f"{query} {name}\n" for query in queries for name in names)
    (folder / "retrieved.txt").write_text(retrieved)
    conf = find_conf("matchers", "disk")
    match.main(conf, folder / "pairs.txt", features, folder / "matches.h5")
    match.main(conf, folder / "retrieved.txt", features, folder / "query_matches.h5")
    return folder


def build(dataset: Path, files: Path, sfm: Path, **options: str) -> pycolmap.Reconstruction:
    return triangulate.main(
        sfm,
        options.pop("reference", dataset / "3D-models" / "aachen_v_1_1"),
        dataset / "images_upright",
        files / "pairs.txt",
        files / "features.h5",
        files / "matches.h5",
        **options,
    )


def find(dataset: Path, files: Path, sfm: Path, results: Path, **options):
    return localize.main(
        sfm,
        options.pop("queries", dataset / "queries" / "*_with_intrinsics.txt"),
        options.pop("retrieval", files / "retrieved.txt"),
        files / "features.h5",
        files / "query_matches.h5",
        results,
        **options,
    )


@pytest.fixture(scope="module")
def sfm(dataset: Path, files: Path) -> Path:
    if not files.joinpath("sfm").exists():
        build(dataset, files, files / "sfm")
    return files / "sfm"


@pytest.mark.parametrize("engine", ENGINES)
def test_queries_are_found_in_the_triangulated_model(
    engine: str, dataset: Path, files: Path, tmp_path: Path
) -> None:
    model = build(dataset, files, tmp_path / "sfm", engine=engine)
    assert model.num_points3D() >= 5500
    reference = pycolmap.Reconstruction(dataset / "3D-models" / "aachen_v_1_1")
    assert {i.name for i in model.images.values()} == {i.name for i in reference.images.values()}
    truth = read_poses(dataset / "queries" / "ground_truth.txt")
    for clustering in (False, True):
        poses = find(
            dataset, files, tmp_path / "sfm", tmp_path / "results.txt",
            engine=engine, covisibility_clustering=clustering,
        )  # fmt: skip
        assert set(poses) == set(truth)
        for name, known in truth.items():
            position, rotation = errors_of(poses[name], known)
            assert position < 0.003
            assert rotation < 0.06
    written = read_poses(tmp_path / "results.txt")
    assert set(written) == {Path(name).name for name in truth}
    for name, pose in poses.items():
        np.testing.assert_array_equal(written[Path(name).name].translation, pose.translation)
    log = json.loads((tmp_path / "results.txt_logs.json").read_text())
    for entry in log["queries"].values():
        assert len(entry["database"]) == 8
        assert entry["matches"] >= entry["correspondences"] >= entry["inliers"] > 100


@pytest.mark.parametrize("verify", ["estimate", "none"])
@pytest.mark.parametrize("engine", ENGINES)
def test_matches_may_be_verified_in_other_ways(
    engine: str, verify: str, dataset: Path, files: Path, tmp_path: Path
) -> None:
    model = build(dataset, files, tmp_path, engine=engine, verify=verify)
    assert model.num_points3D() >= 5500


def test_poses_of_other_photos_are_an_error(dataset: Path, files: Path, tmp_path: Path) -> None:
    """Cameras are moved at random, so no match agrees, and the error says so."""
    model = pycolmap.Reconstruction(dataset / "3D-models" / "aachen_v_1_1")
    names = [image.name for image in model.images.values()]
    for i, image in enumerate(model.images.values()):
        image.name = f"{i}"
    for i, image in enumerate(model.images.values()):
        image.name = names[(i + 3) % len(names)]
    for camera in model.cameras.values():
        camera.params = [camera.params[0] * 9, camera.params[1] * 9, 1e6, 1e6]
    (tmp_path / "wrong").mkdir()
    model.write(tmp_path / "wrong")
    with pytest.raises(DiskHlocError, match="no point was triangulated: none of the"):
        build(dataset, files, tmp_path / "sfm", reference=tmp_path / "wrong")


def test_what_is_missing_is_named(
    dataset: Path, files: Path, sfm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every query that fails is listed with the reason; the others are localized."""
    lines = (dataset / "queries" / "day_time_queries_with_intrinsics.txt").read_text().splitlines()
    intrinsics = lines[0].split(maxsplit=1)[1]
    queries = tmp_path / "queries.txt"
    missing = f"query/lost.jpg {intrinsics}\nquery/lonely.jpg {intrinsics}\n"
    queries.write_text("\n".join(lines) + "\nquery/bare.jpg\n" + missing)
    good, other = (line.split()[0] for line in lines)
    retrieval = tmp_path / "retrieved.txt"
    retrieved = (files / "retrieved.txt").read_text().splitlines()
    kept = [line for line in retrieved if line.startswith(good)]
    unknown = [f"{good} db/unknown.jpg", f"{other} db/unknown.jpg", "query/lost.jpg db/0000.jpg"]
    retrieval.write_text("\n".join(kept + unknown) + "\n")
    with caplog.at_level(logging.WARNING, "disk_hloc"):
        poses = find(
            dataset, files, sfm, tmp_path / "out.txt", queries=queries, retrieval=retrieval
        )
    assert list(poses) == [good]
    log = json.loads((tmp_path / "out.txt_logs.json").read_text())["queries"]
    assert "none of its retrieved images" in log[other]["reason"]
    assert "features.h5" in log["query/lost.jpg"]["reason"]
    assert "retrieved.txt has no images for it" in log["query/lonely.jpg"]["reason"]
    for name in (other, "query/lost.jpg", "query/lonely.jpg", "query/bare.jpg", "db/unknown.jpg"):
        assert name in caplog.text
    # As in hloc, a query that fails gets the pose of its first retrieved image.
    assert set(read_poses(tmp_path / "out.txt")) == {Path(good).name, "lost.jpg"}


def test_a_model_without_points_is_named(dataset: Path, files: Path, tmp_path: Path) -> None:
    model = pycolmap.Reconstruction(dataset / "3D-models" / "aachen_v_1_1")
    for point_id in list(model.points3D):
        model.delete_point3D(point_id)
    model.write(tmp_path)
    with pytest.raises(DiskHlocError, match="has no points to localize with"):
        find(dataset, files, tmp_path, tmp_path / "results.txt")


def test_matches_of_other_features_are_named(
    dataset: Path, files: Path, sfm: Path, tmp_path: Path
) -> None:
    if not engine.native_verdict().works:
        pytest.skip("the native engine needs a newer pycolmap")
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    with h5py.File(folder / "query_matches.h5", "r+") as file:
        for query in file.values():
            for group in query.values():
                group["matches0"][0] = 30_000
    with pytest.raises(DiskHlocError, match="made from other features"):
        find(dataset, folder, sfm, tmp_path / "results.txt", engine="native")


def test_an_image_that_is_not_in_the_model_is_named(
    dataset: Path, files: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    with (folder / "pairs.txt").open("a") as file:
        file.write("db/0000.jpg query/day/nexus4/0002.jpg\n")
    with pytest.raises(DiskHlocError, match=r"not in .*: query/day/nexus4/0002\.jpg"):
        build(dataset, folder, tmp_path / "sfm")


def test_the_commands_lead_from_features_to_recall(
    dataset: Path, files: Path, tmp_path: Path
) -> None:
    def call(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    sfm = dataset / "3D-models" / "aachen_v_1_1"
    features, listed = files / "features.h5", tmp_path / "pairs.txt"
    call("pairs", "poses", sfm, listed, "--num-matched", 7)
    call(
        "triangulate", tmp_path / "sfm", sfm, dataset / "images_upright", listed, features,
        files / "matches.h5",
    )  # fmt: skip
    call("describe", features, tmp_path / "global.h5")
    retrieved = tmp_path / "retrieved.txt"
    call(
        "pairs", "retrieval", tmp_path / "global.h5", retrieved, "--query-prefix", "query/",
        "--db-model", tmp_path / "sfm", "--num-matched", 5,
    )  # fmt: skip
    assert len(retrieved.read_text().splitlines()) == 15
    output = call(
        "localize", tmp_path / "sfm", dataset / "queries" / "*_with_intrinsics.txt", retrieved,
        features, files / "query_matches.h5", tmp_path / "results.txt",
        "--ground-truth", dataset / "queries" / "ground_truth.txt",
    )  # fmt: skip
    assert "all   3 of 3 localized: 100.0 / 100.0 / 100.0 %" in output
    assert "night 1 of 1" in output
