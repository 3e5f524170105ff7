"""What several test modules use: servers, files, models, faults."""
