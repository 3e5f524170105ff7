"""One run over several attempts."""
