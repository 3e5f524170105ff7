"""Measurements of a model before a run: its precision, and whether it seems to get the pixels that it expects."""
