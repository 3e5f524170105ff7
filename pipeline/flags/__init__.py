"""What was asked: argv → `EmbedConfig`, and command lines for people to copy. No Beam, so `--help` is quick."""
