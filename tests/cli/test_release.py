"""The commands as a user of DISK's scripts types them."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from disk_hloc.cli.commands import app
from disk_hloc.weights import resolve
from support.errors import one_line_error
from support.release_files import write_photo


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "detect",
            "--height --width --image-extension --f16 --window --n --desc-dim --mode --model-path "
            "--model_path --detection-scores",
        ),
        ("match", "--rt --save-threshold --u16 --f16 --max-full-matrix"),
        ("view", "--image-extension --save"),
        ("to-colmap", "--database-path --image-extension --single-camera --camera-model"),
    ],
)
def test_every_option_of_the_release_is_there(command: str, options: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = run("release", command, "--help").replace(",", " ").split()
    for option in options.split():
        assert option in words


def test_from_photos_to_a_database(tmp_path: Path) -> None:
    photos, h5 = tmp_path / "photos", tmp_path / "h5"
    photos.mkdir()
    write_photo(photos / "a.jpg", (120, 90))
    write_photo(photos / "b.jpg", (120, 90))
    run(
        *("release", "detect", "--height", 64, "--width", 96, "--n", 50, "--mode", "nms"),
        *("--window", 3, "--detection-scores", "--model_path", resolve("depth"), h5, photos),
    )
    run("release", "match", "--rt", 0.95, "--save-threshold", 10, "--u16", h5)
    with h5py.File(h5 / "matches.h5") as file:
        assert file["a"]["b"].shape[1] >= 10
        assert file["a"]["b"].dtype == "u2"
    run("release", "view", h5, photos, "matches", "--save", tmp_path / "seen")
    assert (tmp_path / "seen" / "1.png").exists()
    database = tmp_path / "db.db"
    to_colmap = (
        *("release", "to-colmap", "--database-path", database, "--image-extension", ".jpg"),
        *("--single-camera", "--camera-model", "opencv", h5, photos),
    )
    run(*to_colmap)
    assert database.exists()
    with pytest.raises(Exception, match="exists") as error:
        run(*to_colmap)
    one_line_error(error, database)
    run("convert", "release", "hloc", h5, tmp_path / "hloc", "--images", photos)
    with h5py.File(tmp_path / "hloc" / "features.h5") as file:
        assert set(file) == {"a.jpg", "b.jpg"}
    run("convert", "hloc", "imc", tmp_path / "hloc", tmp_path / "imc")
    with h5py.File(tmp_path / "imc" / "matches.h5") as file:
        assert set(file) == {"b-a"}
