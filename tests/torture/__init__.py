"""Torture: each fault that we know how to make, made on purpose, and what the job does then. `make torture` runs it."""
