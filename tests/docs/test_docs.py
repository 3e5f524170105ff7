"""The documents: their links, their code blocks, and the flag table that is made from the parser. Offline."""

import argparse
import functools
import importlib.util
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlglot
from apache_beam.options.pipeline_options import PipelineOptions

from docs import flags_table
from tests.helpers import example_docs

ROOT = Path(__file__).parents[2]
# What a user reads, and with what a contributor reads besides.
PAGES = sorted({*ROOT.glob("README.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")})
PACKAGES = ("pipeline", "transforms", "tests", "deploy", "docs", "benchmarks", "examples")
DOCUMENTS = sorted({*PAGES, *ROOT.glob("*.md"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.md"))})
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

LANGUAGES = ("bash", "python", "sql", "json", "text", "mermaid")
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|repo\.maven|repo1\.maven|search\.maven|central\.sonatype|registry\.npmjs|anaconda\.org"
    r"|proxy\.golang|crates\.io|rubygems\.org",
    re.IGNORECASE,
)


class Block(NamedTuple):
    """A fenced block, or an indented one of an example: where it begins, its language and its text."""

    path: Path
    line: int
    language: str
    text: str


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fenced(path: Path) -> Iterator[Block]:
    """Yields the fenced blocks of a document, without their indentation."""
    fence: re.Match | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if fence is None:
            if fence := re.match(r"( *)```(\S*)", line):
                opened, lines = number, []
        elif line.strip() == "```":
            yield Block(path, opened, fence[2], "\n".join(lines) + "\n")
            fence = None
        else:
            lines.append(line.removeprefix(fence[1]))
    assert fence is None, f"{name_of(path)}:{opened}: the fence is not closed"


def indented(path: Path) -> Iterator[Block]:
    """Yields the indented blocks of an example's docstring."""
    for line, text in example_docs.indented(path):
        yield Block(path, line, "bash" if example_docs.is_command(text) else "text", text)


def blocks(*languages: str) -> list:
    """Returns the blocks of some languages in all documents and examples, as parameters of a test."""
    found = itertools.chain(*map(fenced, DOCUMENTS), *map(indented, EXAMPLES))
    return [
        pytest.param(block, id=f"{name_of(block.path)}:{block.line}") for block in found if block.language in languages
    ]


def prose(path: Path, inline_code: bool = False) -> str:
    """Returns a document without its fenced blocks and, unless asked for, without its inline code."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return text if inline_code else re.sub(r"`[^`]*`", "", text)


@functools.cache
def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub gives to the headings of a document."""
    times: Counter[str] = Counter()
    slugs: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(path, inline_code=True), flags=re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        slugs.add(f"{slug}-{times[slug]}" if times[slug] else slug)
        times[slug] += 1
    return slugs


def links(path: Path) -> list[str]:
    text = prose(path, inline_code=True)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, flags=re.MULTILINE)


@functools.cache
def help_of(*command: str) -> frozenset[str]:
    """Returns the flags that the help of a Python command shows."""
    shown = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]*", shown))


@functools.cache
def beam_flags() -> frozenset[str]:
    parser = argparse.ArgumentParser(add_help=False)
    for options in dict.fromkeys(PipelineOptions.__subclasses__()):
        options._add_argparse_args(parser)
    return frozenset(flag for action in parser._actions for flag in action.option_strings)


def known_flags(command: str) -> frozenset[str]:
    """Returns the flags of `run_pipeline.py`, an example, a module, or a module and its verb, as after `python -m`."""
    # The Flink demo hands its flags on to the command.
    if command in ("run_pipeline.py", "deploy.flink"):
        return help_of("run_pipeline.py") | beam_flags()
    if command.startswith("examples/"):  # it hands on what it does not know
        own = frozenset(re.findall(r'add_argument\("(--\w+)"', (ROOT / command).read_text()))
        return own | known_flags("run_pipeline.py") | help_of("-m", "pipeline", "finetune")
    return help_of("-m", *command.split())


# Links.


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    for link in links(path):
        if re.match(r"https?://", link):
            continue  # no network here
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: expected one of {sorted(anchors(target))}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_references_are_defined(path):
    text = prose(path)
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, flags=re.MULTILINE))
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) == defined


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_files_that_are_named_exist(path):
    named = re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w./-]+)`", prose(path, inline_code=True))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]


def test_code_and_configuration_name_pages_that_exist():
    sources = [ROOT / "Makefile", ROOT / "Dockerfile", *(ROOT / "deploy").rglob("*.*")]
    sources += [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    for path in sources:
        for page in re.findall(r"\bdocs/[\w-]+\.md\b", path.read_text()):
            assert (ROOT / page).exists(), f"{name_of(path)}: {page}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_no_address_of_a_package_registry(path):
    assert REGISTRIES.findall(path.read_text()) == []


# Code blocks.


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_blocks_name_their_language(path):
    assert [(block.line, block.language) for block in fenced(path) if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("block", blocks("bash"))
def test_bash_parses(block):
    parsed = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert (parsed.returncode, parsed.stderr) == (0, "")


@pytest.mark.parametrize("block", blocks("python"))
def test_python_compiles(block):
    compile(block.text, f"{name_of(block.path)}:{block.line}", "exec")


@pytest.mark.parametrize("block", blocks("json"))
def test_json_parses(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("sql"))
def test_sql_parses(block):
    assert sqlglot.parse(block.text, "bigquery")


@pytest.mark.parametrize("block", blocks("mermaid"))
def test_pictures_begin_as_mermaid_does(block):
    assert block.text.startswith("flowchart ")
    assert block.text.count("[") == block.text.count("]")


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands_have_the_flags_that_are_shown(block):
    commands = re.sub(r"\\\n", " ", block.text)
    pattern = r"python\S* (?:run_pipeline\.py|-m (pipeline [\w-]+|[\w.]+)|(examples/\w+\.py))([^\n|;]*)"
    for module, example, arguments in re.findall(pattern, commands):
        if module:
            assert importlib.util.find_spec(module.split()[0]), f"no module {module}"
        if module.startswith("apache_beam.") or module in ("venv", "pip"):
            continue
        flags = re.findall(r"(?<=\s)--[a-z][\w-]*", arguments)
        if flags:
            assert set(flags) <= known_flags(module or example or "run_pipeline.py")


@pytest.mark.parametrize("block", blocks("bash"))
def test_make_has_the_targets_that_are_shown(block):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    shown = re.findall(r"^(?:\$ )?make ([\w-]+)", block.text, flags=re.MULTILINE)
    assert set(shown) <= set(targets)


# The examples.


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_short_and_has_a_test(path):
    assert len(path.read_text().splitlines()) <= 80
    assert (ROOT / "tests" / "examples" / f"test_{path.name}").is_file()


def test_the_table_of_examples_names_each():
    table = (ROOT / "examples" / "README.md").read_text()
    assert len(EXAMPLES) == 5 and [path.name for path in EXAMPLES if f"]({path.name}) |" not in table] == []


# The pages.


def test_the_flag_table_is_what_the_parser_gives():
    assert (ROOT / "docs" / "flags.md").read_text() == flags_table.document(), "flags have changed: `make docs`"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900
