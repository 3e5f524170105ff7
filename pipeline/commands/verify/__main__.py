"""Runs the command `python -m pipeline verify`."""

import sys

from pipeline.commands.verify.verify import main

if __name__ == "__main__":
    sys.exit(main())
