"""The location of a path or pattern: Cloud Storage, the web, this machine's filesystem, or elsewhere behind a URI."""

GCS_SCHEME = "gs://"
_HTTP_SCHEMES = ("http://", "https://")


def is_gcs(path: str) -> bool:
    """Returns whether a path or pattern is in Cloud Storage."""
    return path.startswith(GCS_SCHEME)


def is_http(path: str) -> bool:
    """Returns whether a path is a URL of the web, whose scheme may have capitals."""
    return path[:8].lower().startswith(_HTTP_SCHEMES)


def host(path: str) -> str:
    """Returns the host of a URL, with its port and scheme; "" for any other path.

    >>> host("HTTPS://Example.com:8443/a.jpg"), host("gs://bucket/a.jpg")
    ('https://example.com:8443', '')
    """
    return "/".join(path.split("/", 3)[:3]).lower() if is_http(path) else ""


def is_local(path: str) -> bool:
    """Returns whether a path or pattern is in this machine's filesystem, and not a URI."""
    return "://" not in path
