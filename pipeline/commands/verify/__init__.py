"""The command that reads an output again and proves it.

It shares on purpose: how images are listed, and how bytes are fetched from storage. Input and output have to be the
same files as a run's. With `--sample`, it also shares how images are decoded and embedded, because that is compared.

It never shares: how vectors, failures and reports are encoded and framed, how digests are computed, and what files are
called. An error of the writer there would be the reader's error too.
"""
