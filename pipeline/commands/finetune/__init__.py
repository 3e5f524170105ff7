"""The command that trains a classifier on labelled images or on their vectors: `python -m pipeline finetune --help`."""
