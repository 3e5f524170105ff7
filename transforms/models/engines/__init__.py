"""Engines: ModelSpec → the function that a worker calls."""
