"""What earlier runs know: which images have vectors, where the vectors are, and which rows may be deleted."""
