"""Where a path or pattern lies: in Cloud Storage, in this machine's filesystem, or elsewhere behind a URI."""

GCS_SCHEME = "gs://"


def is_gcs(path: str) -> bool:
    """Returns whether a path or pattern is one in Cloud Storage."""
    return path.startswith(GCS_SCHEME)


def is_local(path: str) -> bool:
    """Returns whether a path or pattern is one in this machine's filesystem, and no URI."""
    return "://" not in path
