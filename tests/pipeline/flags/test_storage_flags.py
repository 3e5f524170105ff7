"""pipeline.flags.storage_flags: the storage that a command line tells."""

import argparse

from pipeline.flags import storage_flags
from transforms.storage.context import DEFAULT_STORAGE, Storage


def test_the_storage_of_a_command_line():
    parser = argparse.ArgumentParser()
    storage_flags.add(parser)
    assert storage_flags.storage(parser.parse_args([])) == DEFAULT_STORAGE
    assert storage_flags.storage(parser.parse_args(["--billing_project", "payer"])) == Storage("payer")
    assert storage_flags.storage(parser.parse_args(["--allow_private_hosts"])) == Storage(allow_private_hosts=True)
