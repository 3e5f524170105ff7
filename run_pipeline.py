"""The command that turns images into vectors: see `python run_pipeline.py --help`."""

from pipeline.__main__ import run_command

if __name__ == "__main__":
    run_command()
