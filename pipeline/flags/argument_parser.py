"""The parser of flags that all commands use."""

import argparse
import re
import sys
from typing import Any, NoReturn

from pipeline.runners.console import say, unwritable, write_line


class Parser(argparse.ArgumentParser):
    """Raises ValueError for a wrong flag. argparse itself would print the usage of all flags, and exit."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        # Makes argparse take `-1..1` and `-1,0,1` for values, as in `--pixel_range -1..1`, and not only `-1`.
        self._negative_number_matcher = re.compile(r"^-[\d.][\d.,-]*$")

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def print_help(self, file: Any = None) -> None:
        """Prints the help, and ends the process if that cannot be written."""
        try:
            write_line(file or sys.stdout, self.format_help().removesuffix("\n"))
        except OSError as error:
            say(f"{self.prog}: {unwritable(error)}")
            self.exit(1)
