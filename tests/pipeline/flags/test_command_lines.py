"""Command lines, taken apart again by a real shell."""

import os
import shlex
import shutil
import subprocess

import pytest

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
