"""The job that Dataflow would get, and what it would cost."""
