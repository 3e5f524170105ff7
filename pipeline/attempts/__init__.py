"""One run over several attempts: who holds it, what earlier attempts have left, and when its files get their names."""
