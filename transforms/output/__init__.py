"""Files of an output: where they lie, and how records become complete files."""
