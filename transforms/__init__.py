"""The stages, in the order of the data: list, read, decode, embed, write. Each is usable in a pipeline of your own."""
