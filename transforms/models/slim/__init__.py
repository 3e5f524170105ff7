"""TF-Slim checkpoints → weights → SavedModels."""
