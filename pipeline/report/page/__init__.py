"""The page of a run: `runs/<run_id>.html`, one file that shows what the run did, and what its vectors look like."""
