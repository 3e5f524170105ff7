"""Where a job runs, and what a person sees meanwhile."""
