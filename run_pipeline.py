"""The command: images in, vectors out. `python run_pipeline.py --help` explains itself."""

import sys

from pipeline.launch import main

if __name__ == "__main__":
    sys.exit(main())
