"""The flags that say how stores are reached: for all commands that read from buckets."""

import argparse

from transforms.storage.context import Storage


def add(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--billing_project",
        metavar="PROJECT",
        help="Google Cloud project that pays for reading gs:// buckets with requester pays, as in my-project-123 "
        "(default: none, the bucket's owner pays)",
    )


def storage(args: argparse.Namespace) -> Storage:
    """Returns the storage that the flags describe."""
    return Storage(args.billing_project)
