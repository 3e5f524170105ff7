"""Training a classifier on labelled images or vectors."""
