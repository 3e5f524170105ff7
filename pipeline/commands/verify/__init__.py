"""The command that reads an output again and checks it.

It shares code with a run on purpose where images are listed and bytes are fetched from storage, because input and
output have to be the same files. With `--sample`, it also shares decoding and embedding, whose results it compares.

It never shares how vectors, failures and reports are encoded and framed, how digests are computed, and how files are
named. A shared error there would go unnoticed.
"""
