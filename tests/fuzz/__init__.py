"""Coverage-guided fuzzing of all that reads bytes that strangers write. `make fuzz` runs it."""
