"""What --help shows, and that an option means the same in every command."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from typer.testing import CliRunner

from disk_hloc import choices, confs
from disk_hloc.cli.commands import app
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import CAMERA_MODES
from disk_hloc.train import objectives, run, settings
from disk_hloc.train.objectives import policy

# Options that mean different things in different commands, and must not be renamed.
DIFFERENT = {
    "--desc-dim",  # of a checkpoint to read, or of the network to train
    "--f16",  # the release's: descriptors in detect, distances in match
    "--features",  # a file; for convert, the name of a file in a folder
    "--matches",
    "--height",  # of the photos in detect, of the training images in train
    "--width",
    "--min-score",  # of an object in a mask, or of a retrieved pair
    "--poses",  # compare and finetune take folders of calibration files, too
    "--size",  # one side or two
}
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LARGE_LIBRARIES = ("torch", "kornia", "pycolmap", "cv2", "h5py", "numpy")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))
LEAVES = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}


def shown(*arguments: str) -> str:
    """What the command prints at 200 columns, without its frames."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_and_option_has_a_help_that_is_shown(path: tuple[str, ...]) -> None:
    text = shown(*path, "--help")
    command = ALL[path]
    assert command.help
    assert " ".join(command.help.split()) in text
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert parameter.help.endswith((".", "...")), parameter.help
        # Text in square brackets would be taken for markup and not be shown.
        for word in parameter.help.split():
            assert word in text


def test_an_option_has_one_help_text_wherever_it_is_used() -> None:
    texts: dict[str, set[str]] = defaultdict(set)
    for command in LEAVES.values():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                texts[parameter.opts[0]].add(parameter.help)
    assert {option for option, found in texts.items() if len(found) > 1} == DIFFERENT


def test_help_lists_all_commands_in_panels() -> None:
    text = shown("--help")
    panels = ("Photos to model", "Localization", "Evaluation", "Training", "Files and installation")
    assert [text.index(panel) for panel in panels] == sorted(text.index(panel) for panel in panels)
    for name in ALL[()].commands:
        assert f" {name} " in text
        assert ALL[()].commands[name].rich_help_panel in panels


def test_the_command_line_imports_no_large_library() -> None:
    code = (
        "import sys, disk_hloc.cli.commands as cli\n"
        "try:\n    cli.app(['reconstruct', '--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print('loaded:', [name for name in {LARGE_LIBRARIES} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith("loaded: []")


def test_choices_are_those_of_the_code_behind_them() -> None:
    assert set(get_args(choices.CameraMode)) == set(CAMERA_MODES)
    assert set(get_args(choices.Precision)) == set(run.PRECISIONS)
    assert set(choices.REWARDS) == set(policy.REWARDS)
    assert set(choices.OBJECTIVES) == set(objectives.OBJECTIVES)


def test_the_help_of_train_shows_the_defaults_of_its_conf() -> None:
    conf = confs.packaged("train")["disk"]
    for parameter in LEAVES[("train",)].params:
        place = settings.OPTIONS.get(parameter.name)
        # Flags show no default, and DISK's network has no ResNet.
        if place is None or parameter.is_flag or parameter.name == "imagenet":
            continue
        value = conf[place[0]][place[1]]
        expected = "random weights" if value is None else str(value)
        assert parameter.show_default == expected, parameter.name


@pytest.mark.parametrize("pipeline", ["aachen", "aachen_v1_1"])
def test_the_help_of_a_pipeline_shows_the_defaults_of_its_conf(pipeline: str) -> None:
    conf = yaml.safe_load((CONFIGS / f"{pipeline}.yaml").read_text(encoding="utf-8"))
    shown_defaults = {
        parameter.name: parameter.show_default
        for parameter in LEAVES[("pipeline", pipeline)].params
        if isinstance(parameter.show_default, str)
    }
    assert shown_defaults == {name: str(conf[name]) for name in shown_defaults}
    assert set(shown_defaults) == {"retrieval", "num_covis", "num_loc"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        # A default that is given is given.
        (("--matcher", "disk"), "--matcher"),
        (("--extractor", "disk-2k"), "--extractor"),
        (("--mask-file", "m.png"), "--mask-file"),
        (("--pairs", "exhaustive", "--overwrite"), "--pairs, --overwrite"),
        (("--camera-mode", "auto"), "--camera-mode"),
        (("--device", "cpu"), "--device"),
    ],
)
def test_from_database_refuses_options_that_it_does_not_use(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = CliRunner().invoke(
        app, ["reconstruct", "photos", str(tmp_path), "--from-database", "x.db", *arguments]
    )
    assert isinstance(done.exception, DiskHlocError)
    assert f"leave out {named} (" in str(done.exception)


def test_from_database_takes_the_options_that_it_uses(tmp_path: Path) -> None:
    """The only error is that there is no database."""
    done = CliRunner().invoke(
        app,
        [
            "reconstruct", "photos", str(tmp_path), "--from-database", "absent.db",
            "--fix-intrinsics", "--mapper", "incremental", "--no-robust", "--verbose",
        ],
    )  # fmt: skip
    assert isinstance(done.exception, DiskHlocError)
    assert "absent.db" in str(done.exception)
    assert "leave out" not in str(done.exception)


@pytest.mark.parametrize("pipeline", ["aachen", "aachen_v1_1"])
def test_a_pipeline_runs_as_a_module(pipeline: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"disk_hloc.pipelines.{pipeline}", "--dataset", "absent"],
        check=False, capture_output=True, text=True, env={"COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"pipeline {pipeline}" in done.stderr
    assert "Missing option '--outputs'" in done.stderr
