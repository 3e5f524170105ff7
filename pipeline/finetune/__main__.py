"""`python -m pipeline.finetune`."""

import os
import sys

from pipeline.command import INTERRUPTED
from pipeline.finetune.run import main

if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:  # TensorFlow's reading threads may still be in Python, and abort the process as it ends
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
