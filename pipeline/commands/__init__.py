"""The further commands, one verb each."""
