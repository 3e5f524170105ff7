"""Writes docs/flags.md from the parser of the command: `python -m docs.flags_table > docs/flags.md`."""

import argparse
import re
import sys
from collections.abc import Iterator

from pipeline.flags.parser import build_parser

_BEGINNING = """\
# Flags and exit codes

<!-- Made from the parser in pipeline/flags/parser.py by `make docs`. Change the help of a flag there, not here. -->

```text
python run_pipeline.py [--input PATTERN]... [--output DIR] [flags] [Beam's flags]
```

A switch has no value, or `true` or `false`: `--prune` means the same as `--prune=true`.
"""

_END = """\
## Beam's flags

Beam's own flags pass through: `--runner`, `--direct_num_workers`, `--temp_location` and all others. They win over a
preset. On Flink, flags of [Beam's job server](flink.md) pass through as well. A flag that nobody knows is an error.
`--explain` prints the value of each flag, and its origin.

Without `--runner`, the job runs in this process with one thread per core that it may use. In a container with a CPU
limit, it uses one thread per core of that limit.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | the job failed, or all images, or more than `--max_failure_rate` allows; everything written is kept |
| 2 | a flag or an input is wrong; one line says so before any work starts |
| 130 | interrupted by SIGINT (Ctrl-C); [the same command goes on](interruptions.md) |
| 143 | interrupted by SIGTERM; the same command goes on |
"""


def document() -> str:
    """Returns docs/flags.md: a table for each group of flags, and the text around the tables."""
    return "\n".join([_BEGINNING, *_tables(build_parser()), _END])


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            rows = ["| flag | default | meaning |", "|---|---|---|", *map(_row, actions)]
            title = group.title or ""
            yield "\n".join([f"## {_escaped(title[:1].upper() + title[1:])}", "", *rows, ""])


def _row(action: argparse.Action) -> str:
    text = " ".join((action.help or "").split()) % {"default": action.default}
    stated = re.search(r"\s*\(default: (.*)\)$", text)
    meaning = text[: stated.start()] if stated else text
    default = stated[1] if stated else "off" if action.nargs == "?" else "none"
    return f"| `{_flag(action)}` | {_escaped(default)} | {_escaped(meaning)} |"


def _flag(action: argparse.Action) -> str:
    name = action.option_strings[0]
    is_switch = action.nargs == "?" and not action.choices
    if is_switch:
        return name
    value = f"{{{','.join(map(str, action.choices))}}}" if action.choices and not action.metavar else action.metavar
    return f"{name}[={value}]" if action.nargs == "?" else f"{name} {value}"


def _escaped(text: str) -> str:
    """Returns text that Markdown shows as it is, with flags as code."""
    escaped = re.sub(r"([*_|<])", r"\\\1", text)
    return re.sub(r"--\w[\w\\]*", lambda flag: f"`{flag[0].replace(chr(92), '')}`", escaped)


if __name__ == "__main__":
    sys.stdout.write(document())
