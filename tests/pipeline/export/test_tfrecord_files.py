import pytest

from pipeline.export import tfrecord_files
from tests.exports import MODEL, embedding
from transforms.encoding import examples, tfrecord


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "part-00000-of-00001.tfrecord"
    records = examples.encode_embeddings([embedding(i) for i in range(600)], MODEL.fields())
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    return path


def test_embeddings_are_where_identities_say(shard):
    with shard.open("rb") as file:
        places = [place for place, _ in tfrecord_files.identities(str(shard), file)]
        chosen = [places[i] for i in (0, 1, 299, 599)]
        stored = list(tfrecord_files.embeddings(str(shard), file, chosen))
    assert len(places) == 600
    for i, each in zip((0, 1, 299, 599), stored, strict=True):
        assert (each.embedding.info, each.model_digest) == (embedding(i).info, MODEL.digest)
        assert each.embedding.vector.tolist() == embedding(i).vector.tolist()


def test_the_error_of_a_broken_record_takes_its_place(shard):
    with shard.open("rb") as file:
        places = [place for place, _ in tfrecord_files.identities(str(shard), file)]
    content = bytearray(shard.read_bytes())
    content[places[1] + 20] ^= 1
    shard.write_bytes(content)
    with shard.open("rb") as file:
        first, second, third = tfrecord_files.embeddings(str(shard), file, places[:3])
        file.seek(0)
        with pytest.raises(ValueError, match="checksum"):
            list(tfrecord_files.identities(str(shard), file))
    assert isinstance(second, ValueError)
    assert [each.embedding.info for each in (first, third)] == [embedding(0).info, embedding(2).info]
