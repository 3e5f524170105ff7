"""The location of a path or pattern: Cloud Storage, the web, this machine's filesystem, or elsewhere behind a URI."""

GCS_SCHEME = "gs://"
_HTTP_SCHEMES = ("http://", "https://")


def is_gcs(path: str) -> bool:
    """Returns whether a path or pattern is in Cloud Storage."""
    return path.startswith(GCS_SCHEME)


def is_http(path: str) -> bool:
    """Returns whether a path is a URL of the web, whose scheme may have capitals."""
    return path[:8].lower().startswith(_HTTP_SCHEMES)


def is_local(path: str) -> bool:
    """Returns whether a path or pattern is in this machine's filesystem, and not a URI."""
    return "://" not in path
