"""transforms.elements.one_line: what a person is shown of an error."""

import random
import urllib.error

import pytest
from apache_beam.io.filesystem import BeamIOError

from transforms.elements.one_line import MAX_CHARACTERS, is_seen, name, of_name, one_line, printable, printable_lines
from transforms.models.slim.checkpoint import CheckpointMismatchError

REMOTE = """java.lang.RuntimeException: Error received from SDK harness: Traceback (most recent call last):
  File "worker.py", line 7, in _execute
    response = task()
ValueError: the model is gone [while running 'EmbedImages']
"""


TENSORFLOW = """Graph execution error:

Detected at node Call/assert_less/Assert defined at (most recent call last):
  File "threading.py", line 1002, in _bootstrap

  File "loading.py", line 7, in <module>

assertion failed: [too bright]
\t [[{{node Call/assert_less/Assert}}]] [Op:__inference_pruned_205]"""

TENSORFLOW_PYTHON = """Graph execution error:

Detected at node PyFunc defined at (most recent call last):
<stack traces unavailable>
KeyError: 'no such thing'
Traceback (most recent call last):

  File "script_ops.py", line 269, in __call__
    ret = func(*args)

KeyError: 'no such thing'


\t [[{{node PyFunc}}]] [Op:__inference_pyf_212]"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("flag='x': expected y"), "flag='x': expected y"),
        (ValueError("\n  first \t line  \nsecond"), "first line"),
        (ValueError(), "ValueError"),
        (OSError(" \n "), "OSError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), "[Errno 2] No such file or directory: 'a.jpg'"),
        (BeamIOError("match failed", {"gs://b/*": PermissionError("403 denied\nrequest 7")}), "403 denied"),
        (BeamIOError("match failed", {}), "match failed with exceptions {}"),
        (BeamIOError("match failed"), "match failed with exceptions None"),
        (BeamIOError("no", {"a": BeamIOError("no", {"a": OSError("the disk is gone")})}), "the disk is gone"),
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "[Errno 111] Connection refused"),
        (urllib.error.URLError(TimeoutError()), "TimeoutError"),
        (urllib.error.URLError("unknown url type: x"), "<urlopen error unknown url type: x>"),
        (RuntimeError(REMOTE), "ValueError: the model is gone [while running 'EmbedImages']"),
        (
            RuntimeError("<RPC that terminated with:\n\tstatus = UNAVAILABLE\n>"),
            "<RPC that terminated with: status = UNAVAILABLE",
        ),
        (RuntimeError("failed:"), "failed:"),
        (RuntimeError(TENSORFLOW), "assertion failed: [too bright]"),
        (
            RuntimeError("{{function_node __inference_f_9}} too bright\n\t [[{{node a/b}}]] [Op:__inference_f]"),
            "too bright",
        ),
        (RuntimeError(TENSORFLOW_PYTHON), "KeyError: 'no such thing'"),
    ],
)
def test_one_line(error, said):
    assert one_line(error) == said


def test_a_reason_that_is_no_error_is_part_of_the_message():
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert one_line(error) == str(error)


def test_its_length_is_bounded():
    assert one_line(ValueError("x" * MAX_CHARACTERS)) == "x" * MAX_CHARACTERS
    assert one_line(ValueError("x" * (MAX_CHARACTERS + 1))) == "x" * (MAX_CHARACTERS - 1) + "…"
    assert one_line(ValueError("abcdef"), 4) == "abc…"


def test_a_checkpoint_of_another_network_is_described_whole():
    names = tuple(
        f"InceptionResnetV2/Repeat_1/block17_{i}/Branch_1/Conv2d_0b_1x7/BatchNorm/moving_mean" for i in range(20)
    )
    error = CheckpointMismatchError("c", "n", names, {}, "is it another network's?")
    assert one_line(ValueError(error.describe(limit=20))) == error.describe(limit=20)


def test_names_do_not_reach_the_terminal_as_they_are():
    assert printable("caf\u00e9 \x1b[31m\u202e\udce9\n") == "caf\u00e9 \\x1b[31m\\u202e\\xe9\\n"
    assert one_line(ValueError("the file \x1b[31m\u3164.jpg")) == r"the file \x1b[31m\u3164.jpg"
    assert printable_lines("a\tb\nc\r") == "a\\tb\nc\\r"


# Letters, marks and symbols that show nothing, and others of each kind that cannot be seen.
UNSEEN = (
    "\x00\n\x1b\x7f\x85\xa0\xad\u034f\u115f\u1160\u17b4\u17b5\u180b\u180e\u180f\u200b\u200d\u202e\u2028\u2066\u2800"
    "\u3000\u3164\ue000\ufe00\ufe0f\ufeff\uffa0\uffff\U00013441\U00016fe4\U0001d159\U000e0001\U000e0100\U000e01ef"
    "\U0010ffff\ud800\udce9\x80\udc80\udcff"
)


@pytest.mark.parametrize("character", UNSEEN, ids=ascii)
def test_what_cannot_be_seen_is_an_escape(character):
    assert not is_seen(character) and is_seen(name(character)) and name(character).startswith("\\")
    assert of_name(name(character)) == character


def test_what_can_be_seen_stays():
    for text in ("a b", "日本 é", "שלום", "'\"$", "❤"):
        assert is_seen(text) and name(text) == printable(text) == text


def test_different_names_are_written_differently_and_can_be_read_again():
    rng = random.Random(0)
    alphabet = "a\\nxuU0e9\n\t\x1b\u3164\udce9\x85\xe9\U0001d159 "
    names = {"".join(rng.choices(alphabet, k=rng.randint(0, 6))) for _ in range(20_000)}
    assert len(set(map(name, names))) == len(names)
    assert all(of_name(name(text)) == text for text in names)


def test_a_backslash_that_begins_no_escape_stays():
    assert of_name("a\\q\\") == "a\\q\\"


def test_an_escape_beyond_the_last_character_is_the_last():
    assert of_name(r"\Uffffffff") == "\U0010ffff"
