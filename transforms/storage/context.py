"""`Storage`: a run's settings for its stores, made once from its flags. It is plain data and travels to workers."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Storage:
    """How requests to stores are made. Each process opens the client of a store once, see `gcs.client`.

    Attributes:
      billing_project: the Google Cloud project that pays for requests to buckets with requester pays; None if the
        bucket's owner pays.
      allow_private_hosts: whether URLs may lead to addresses that are not of the public internet.
      url_seconds: the most seconds that an image at a URL may take, with all redirects and retries.
    """

    billing_project: str | None = None
    allow_private_hosts: bool = False
    url_seconds: float = 120.0


DEFAULT_STORAGE = Storage()
