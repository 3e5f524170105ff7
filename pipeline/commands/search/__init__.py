"""Images that look like an image: exact search among the vectors of runs."""
