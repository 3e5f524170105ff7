"""The command that trains on labelled images or on their vectors: `python -m pipeline.finetune --help`."""
