"""The flags that say how stores are reached: for all commands that read from buckets."""

import argparse

from pipeline.flags import flag_types
from transforms.storage.context import Storage


def add(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--billing_project",
        metavar="PROJECT",
        help="Google Cloud project that pays for reading gs:// buckets with requester pays, as in my-project-123 "
        "(default: none, the bucket's owner pays)",
    )
    flag_types.add_switch(
        group,
        "--allow_private_hosts",
        "read http:// and https:// URLs in lists also from private, loopback and link-local addresses, and through the "
        "proxy of the environment. Lists by strangers can then reach what only your network can",
    )


def storage(args: argparse.Namespace) -> Storage:
    """Returns the storage that the flags describe."""
    return Storage(args.billing_project, args.allow_private_hosts)
