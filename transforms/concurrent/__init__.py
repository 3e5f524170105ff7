"""Threads and processes: cores, calls in flight at once, what a process spends, and what a started process imports."""
