"""transforms.storage.stores.store: paths, and objects that are written as a whole."""

import pytest

from transforms.storage.stores import store


@pytest.mark.parametrize("path", ["gs://", "gs:///a", "gs://b*/a", "gs://b?/a", "gs://b[1]/a"])
def test_paths_without_a_bucket(path):
    with pytest.raises(ValueError, match="expected gs://BUCKET/NAME"):
        store.split(path)
