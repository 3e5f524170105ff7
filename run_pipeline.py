"""The command that turns images into vectors: see `python run_pipeline.py --help`."""

import sys

from pipeline.launch import main

if __name__ == "__main__":
    sys.exit(main())
