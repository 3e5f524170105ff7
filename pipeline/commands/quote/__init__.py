"""The job that Dataflow would get, and its cost."""
