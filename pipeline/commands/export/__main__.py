"""Runs the command `python -m pipeline export`."""

import sys

from pipeline.commands.export.send import main

if __name__ == "__main__":
    sys.exit(main())
