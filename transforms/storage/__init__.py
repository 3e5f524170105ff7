"""Storage: local files, other filesystems through Beam, and Cloud Storage through its own client."""
