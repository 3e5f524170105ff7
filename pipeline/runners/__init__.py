"""Where a job runs: presets, Beam's options, and what a person sees meanwhile."""
