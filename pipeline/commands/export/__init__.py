"""Sends the vectors of runs to a vector search: `python -m pipeline export`.

`stored_rows.py` reads the rows, `difference.py` computes what a target lacks, and each target has a module.
"""
