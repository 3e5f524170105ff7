"""Threads and processes: how many cores there are, calls in flight at once, and what a started process imports."""
