"""Command lines, taken apart again by a real shell."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from pipeline.flags import command_lines
from pipeline.flags.command_lines import join

HARD = [
    "",
    "plain",
    "a b",
    "it's",
    '"$HOME" `id` $(id) \\ \\x41 !! *?[a] ~ # ; & | < > {a,b}',
    "-dash",
    "line\nbreak\r\n\ttab",
    "it's \\ $HOME `id`!x\n",
    "\u200cباران\u200d",
    "gpj.\u202eexe\u2066",
    "\ufeffno\u00a0break\u3000",
    "caf\udce9\udcff.jpg",
    "\u200bab12",
    "é 日本 👩\u200d👩\u200d👧 a\u0301",
    "\x01\x1b[31m\x7f\x9b",
    "\ue000\U0010ffff",
    "\ud800",
]


@pytest.mark.parametrize(
    ("orig_argv", "argv", "program", "name"),
    [
        (["python", "run_pipeline.py", "-x"], ["run_pipeline.py", "-x"], "python run_pipeline.py", "run_pipeline.py"),
        ([".venv/bin/python", "-P", "/a b/run_pipeline.py"], ["/a b/run_pipeline.py"], None, "run_pipeline.py"),
        (
            ["py", "-m", "pipeline", "search", "y"],
            ["/c/pipeline/__main__.py", "search", "y"],
            "py -m pipeline",
            "pipeline",
        ),
        (["/v/bin/python", "/v/embed-images", "-x"], ["/v/embed-images", "-x"], "/v/embed-images", "embed-images"),
        (["python", "-m", "pytest"], ["/v/pytest/__main__.py"], "python run_pipeline.py", "run_pipeline.py"),
        (["python", "-c", "…"], ["-c", "a", "b", "c", "d"], "python run_pipeline.py", "run_pipeline.py"),
    ],
    ids=["script", "script elsewhere", "module", "installed", "another program", "changed arguments"],
)
def test_a_command_line_begins_as_the_program_was_called(monkeypatch, orig_argv, argv, program, name):
    monkeypatch.setattr(sys, "orig_argv", orig_argv)
    monkeypatch.setattr(sys, "argv", argv)
    assert join(command_lines.program()) == (program or ".venv/bin/python -P '/a b/run_pipeline.py'")
    assert command_lines.name() == name


def test_what_is_on_the_path_is_called_by_its_name(monkeypatch, tmp_path):
    script = tmp_path / "embed-images"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "orig_argv", ["python", str(script), "a"])
    monkeypatch.setattr(sys, "argv", [str(script), "a"])
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert command_lines.program() == ("embed-images",)
    assert (
        command_lines.as_called("python run_pipeline.py, python -m pipeline search")
        == "embed-images, embed-images search"
    )
    advice = "`python -m pipeline stage-model m DIR` copies 'python run_pipeline.py' and 'python -m pipeline'"
    assert command_lines.advice_as_called(advice) == advice.replace("`python -m pipeline", "`embed-images")


def test_words_are_printable_and_plain_where_they_can_be():
    line = join(HARD)
    assert line.isprintable() and line.startswith(shlex.join(HARD[:6]))
    assert join(["a\u200cb", "it's\n"]) == r"$'a\xe2\x80\x8cb' $'it\x27s\x0a'"
    assert join([]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_shell_reads_the_words_that_were_written(shell, locale):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    line = join(["printf", r"%s\0", *HARD])
    command = [shell, "-c", line.encode()]
    printed = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"LC_ALL": locale})
    *words, lone = HARD
    expected = [*map(os.fsencode, words), lone.encode("utf-8", "surrogatepass")]
    assert printed.stdout.split(b"\0")[:-1] == expected


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("\udc80\n", r"$'\x80\x0a'"),
        ("\udcff\n", r"$'\xff\x0a'"),
        ("\udc7f", r"$'\xed\xb1\xbf'"),
        ("\udd00", r"$'\xed\xb4\x80'"),
        ("!\\'\n", r"$'\x21\x5c\x27\x0a'"),
    ],
)
def test_bytes_and_special_characters_among_others_that_are_not_printable(argument, word):
    assert join([argument]) == word
