"""The pages: links lead somewhere, command lines parse, and the English is plain."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from disk_hloc import __version__
from disk_hloc.cli.commands import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/RESULTS.md"])
CODE = sorted(
    path
    for folder in ("disk_hloc", "pipelines", "configs", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml") and path != Path(__file__)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Words of translated or old-fashioned English, and what to write instead.
STILTED = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\banew\b": "again, from scratch",
    r"\bthrice\b": "three times",
    r"\b(is|are|was|were) none\b": "is not a ..., there is no ...",
    r"\bto be had\b": "is not possible, is not available",
    r"\bgone on with\b": "resumed",
    r"\bway out\b": "say what to do",
    r"\bpassed over\b": "skipped",
    r"\bso many\b": "this many, N",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def command_lines() -> list[str]:
    """The ``disk-hloc`` commands in the shell snippets of all pages, a line each."""
    lines = []
    for page in PAGES:
        for language, snippet in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "sh":
                lines += snippet.replace("\\\n", " ").splitlines()
    return sorted({line.split("#")[0].strip() for line in lines if line.startswith("disk-hloc ")})


def stilted(path: Path) -> list[str]:
    """Where a file has a word of :data:`STILTED`."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for words, instead in STILTED.items():
            match = re.search(words, line)
            if match:
                found.append(f"{name_of(path)}:{number}: {match[0]!r}; better: {instead}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    """In backquotes, from the root of the repository; NAME stands for one that is to be made."""
    named = re.findall(
        r"`((?:disk_hloc|configs|pipelines|tests|benchmarks|docs)/[\w./-]+)`",
        page.read_text(encoding="utf-8"),
    )
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]


def test_the_map_shows_every_folder() -> None:
    """The tree on the page of the architecture has the package's folders, and no others."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, tree = FENCE.findall(page)[0]
    shown = set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    package = (ROOT / "disk_hloc").iterdir()
    assert shown == {path.name for path in package if (path / "__init__.py").exists()}
    modules = re.search(r"^  (\w+\.py.*)$", tree, re.MULTILINE)
    loose = {path.name for path in (ROOT / "disk_hloc").glob("*.py")}
    assert modules
    # The others start the package, and keep a documented name.
    loose -= {"__init__.py", "__main__.py", "shards.py"}
    assert set(modules[1].split()) == loose


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {index.parent / link for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert set((ROOT / "docs").glob("*.md")) - {index} <= linked


@pytest.mark.parametrize("line", command_lines())
def test_command_lines_parse(line: str) -> None:
    """As the command parses them, without running anything."""
    command = typer.main.get_command(app)
    context, words = None, shlex.split(line)[1:]
    while hasattr(command, "resolve_command"):
        context = command.context_class(command, parent=context)
        _, command, words = command.resolve_command(context, words)
    command.make_context(command.name, words, parent=context)


def test_make_targets_exist() -> None:
    for page in PAGES:
        for language, snippet in FENCE.findall(page.read_text(encoding="utf-8")):
            for target in re.findall(r"^make (\S+)", snippet, re.MULTILINE) * (language == "sh"):
                done = subprocess.run(
                    ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{name_of(page)}: {done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_are_in_plain_english(page: Path) -> None:
    assert not stilted(page)


def test_code_is_in_plain_english() -> None:
    assert not [line for path in CODE for line in stilted(path)]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_citation_and_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
