"""transforms.encoding.stored_embeddings: what records say, whatever the format of their file."""

import numpy as np
import pytest

from transforms.encoding.stored_embeddings import Identity, StoredVectors

IDENTITY = Identity(b"a.jpg", "1", "ab" * 32, 7, "AAAAAA==", "d" * 64, b"")


def test_an_identity_becomes_an_embedding():
    stored = IDENTITY.with_vector(("jpeg", 4, 3), vector := np.ones(2, np.float32))
    info = stored.embedding.info
    assert stored.model_digest == "d" * 64 and stored.embedding.vector is vector
    assert (info.ref, info.sha256) == (IDENTITY.ref(), "ab" * 32)
    assert (info.format, info.height, info.width) == ("jpeg", 4, 3)


@pytest.mark.parametrize(("shard", "in_shard", "is_file"), [(b"", b"", True), (b"s", b"s", False), (None, b"", False)])
def test_only_a_record_that_says_so_is_of_a_file(shard, in_shard, is_file):
    identity = IDENTITY._replace(shard=shard)
    assert (identity.ref().in_shard, identity.is_file) == (in_shard, is_file)
    assert StoredVectors([b"a"], np.zeros((1, 2), np.float32), [("m", "d")], [shard]).are_files == [is_file]


def test_vectors_of_one_model_and_of_two():
    vectors = StoredVectors([b"a", b"b"], np.zeros((2, 2), np.float32), [("m", "d"), ("m", "d")], [b"", b""])
    assert vectors.digest() == "d"
    with pytest.raises(ValueError, match="vectors of the models d, e: expected those of one"):
        vectors._replace(models=[("m", "d"), ("m", "e")]).digest()
