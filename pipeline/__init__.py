"""The job: what was asked, how it is put together, where it runs, and what it tells."""
