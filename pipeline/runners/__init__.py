"""Where a job runs: presets, Beam's options, and what the user sees while it runs."""
