"""A benchmark of a GPU, in under ten minutes: `python -m benchmarks.gpu`, or `make bench-gpu`."""
