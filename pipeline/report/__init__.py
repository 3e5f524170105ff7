"""The run report: what became of every image, and what limited the run."""
