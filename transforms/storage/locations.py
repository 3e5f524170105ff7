"""The location of a path or pattern: Cloud Storage, this machine's filesystem, or elsewhere behind a URI."""

GCS_SCHEME = "gs://"


def is_gcs(path: str) -> bool:
    """Returns whether a path or pattern is in Cloud Storage."""
    return path.startswith(GCS_SCHEME)


def is_local(path: str) -> bool:
    """Returns whether a path or pattern is in this machine's filesystem, and not a URI."""
    return "://" not in path
