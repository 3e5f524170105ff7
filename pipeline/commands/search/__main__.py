"""Runs the command `python -m pipeline search`."""

import sys

from pipeline.commands.search.search import main

if __name__ == "__main__":
    sys.exit(main())
