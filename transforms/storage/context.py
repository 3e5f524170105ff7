"""`Storage`: a run's settings for its stores, made once from its flags. It is plain data and travels to workers."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Storage:
    """How requests to stores are made. Each process opens the client of a store once, see `gcs.client`.

    Attributes:
      billing_project: the Google Cloud project that pays for requests to buckets with requester pays; None if the
        bucket's owner pays.
    """

    billing_project: str | None = None


DEFAULT_STORAGE = Storage()
