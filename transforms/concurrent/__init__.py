"""Many calls in flight at once, each of which waits for a server."""
