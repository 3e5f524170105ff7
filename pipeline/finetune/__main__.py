"""Runs the command `python -m pipeline.finetune`."""

import os
import sys

from pipeline.command import INTERRUPTED
from pipeline.finetune.run import main

if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:  # TensorFlow's input threads may still run Python code, and would abort the exit
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
