"""What earlier runs know: which images have vectors, where these lie, and which rows may go."""
