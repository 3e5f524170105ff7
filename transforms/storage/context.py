"""`Storage`: what a run says about its stores, made once from its flags. It is plain data, which travels to workers."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Storage:
    """How requests to stores are made. The client of a store is opened once a process, see `gcs.client`.

    Attributes:
      billing_project: the Google Cloud project that pays for requests to buckets with requester pays; None if the
        bucket's owner pays.
    """

    billing_project: str | None = None


DEFAULT_STORAGE = Storage()
