"""transforms.storage.locations: where a path lies, by its looks."""

import pytest

from transforms.storage import locations


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("https://example.com/a.jpg", "https://example.com"),
        ("HTTP://Example.com:8080", "http://example.com:8080"),
        ("https://[::1]:80/a/b", "https://[::1]:80"),
        ("gs://bucket/a.jpg", ""),
        ("/photos/https:/a.jpg", ""),
        ("https:/a", ""),
    ],
)
def test_the_host_of_a_url(path, host):
    assert locations.host(path) == host
    assert locations.is_http(path) == bool(host)


@pytest.mark.parametrize(
    ("path", "is_gcs", "is_local"),
    [
        ("gs://bucket/photos/**", True, False),
        ("gs://", True, False),
        ("s3://bucket/a.jpg", False, False),
        ("/photos/a.jpg", False, True),
        ("photos/gs:/a.jpg", False, True),
        ("GS://bucket/a.jpg", False, False),
        ("", False, True),
    ],
)
def test_where_a_path_lies(path, is_gcs, is_local):
    assert (locations.is_gcs(path), locations.is_local(path)) == (is_gcs, is_local)
