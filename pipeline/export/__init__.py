"""Sends the vectors of runs to a vector search: `python -m pipeline.export`.

`runs.py` lists the files, `difference.py` computes what a target lacks, and a module for each target takes it.
"""
