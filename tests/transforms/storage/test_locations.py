"""transforms.storage.locations: where a path lies, by its looks."""

import pytest

from transforms.storage import locations


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
