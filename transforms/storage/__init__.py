"""Storage: files on this machine and objects in buckets, by one interface for each kind of store; see `stores`."""
