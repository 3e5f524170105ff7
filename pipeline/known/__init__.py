"""What earlier runs know."""
