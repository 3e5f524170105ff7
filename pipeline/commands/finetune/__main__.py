"""Runs the command `python -m pipeline finetune`."""

import sys

from pipeline.attempts import interruption
from pipeline.commands.finetune.run import main

if __name__ == "__main__":
    code = main()
    if code in (
        interruption.INTERRUPTED,
        interruption.TERMINATED,
    ):  # TensorFlow's input threads may still run Python code
        interruption.leave(code)
    sys.exit(code)
