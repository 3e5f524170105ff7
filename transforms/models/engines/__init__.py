"""Engines: a ModelSpec → the model that a worker calls."""
