"""pipeline.commands.verbs: each verb has a module with a `main`, and a line of help."""

import importlib

import pytest

from pipeline.commands import verbs


@pytest.mark.parametrize("name", verbs.VERBS)
def test_a_verb_has_a_module_and_a_line(name):
    verb = verbs.VERBS[name]
    assert callable(importlib.import_module(verb.module).main)
    lines = [line for line in verbs.described().splitlines() if line.split()[0] == name]
    assert len(lines) == 1 and lines[0].endswith(verb.summary) and len(lines[0]) <= 100
