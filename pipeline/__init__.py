"""The job: its flags, its graph, where it runs, and what it reports."""
