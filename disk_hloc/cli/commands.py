"""The commands of ``disk-hloc``, in panels of its help."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from disk_hloc import __version__
from disk_hloc.errors import DESCRIPTIONS

from . import dataset, evaluation, files, localization, maps, pairs, photos, release, training

# All commands import what they run in their bodies, so that --help does not wait for torch.

app = typer.Typer(
    help="DISK local features for 3D reconstruction and visual localization.",
    epilog="\n\n".join(
        ["Exit codes:", *(f"{code.value} {words}" for code, words in DESCRIPTIONS.items())]
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, commands, groups in (
    (
        "Photos to model",
        (
            photos.extract,
            photos.match,
            photos.mask,
            photos.reconstruct,
            photos.georeference,
            photos.triangulate,
            photos.report,
        ),
        {"pairs": pairs.app},
    ),
    (
        "Localization",
        (localization.describe, localization.localize),
        {"map": maps.app, "pipeline": localization.pipeline_app},
    ),
    ("Evaluation", (evaluation.compare,), {"eval": evaluation.eval_app}),
    (
        "Training",
        (training.train, training.train_auc, training.finetune),
        {"dataset": dataset.app},
    ),
    (
        "Files and installation",
        (files.convert, files.export, files.demo, files.doctor),
        {"release": release.app},
    ),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=panel)


def _join_lines(group: typer.Typer) -> None:
    """Join the lines of each paragraph in the help: Typer keeps the line breaks of docstrings."""
    for info in group.registered_commands:
        paragraphs = (inspect.getdoc(info.callback) or "").split("\n\n")
        info.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for subgroup in group.registered_groups:
        if subgroup.typer_instance is not None:
            _join_lines(subgroup.typer_instance)


_join_lines(app)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """DISK local features for 3D reconstruction and visual localization."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
