"""Calls that wait for a server, many at once."""
