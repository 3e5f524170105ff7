"""TFRecord files of embeddings, read twice: first their identities, later the embeddings at some places."""

import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from transforms.encoding import examples, tfrecord
from transforms.encoding.examples import Identity
from transforms.records import Embedding, ImageInfo, ImageRef

# Far above any embedding: it limits the memory that a reader of a broken file allocates.
_MAX_RECORD_BYTES = 2**26
_RECORDS_PER_DECODE = 256


class Stored(NamedTuple):
    """An embedding, and the digest of its model."""

    embedding: Embedding
    model_digest: str


def identities(path: str, file: BinaryIO) -> Iterator[tuple[int, Identity]]:
    """Yields the place, which is its first byte, and the identity of each embedding of a file, in order.

    Raises:
      ValueError: if the file is broken, or holds something else.
    """
    records = tfrecord.read(file, _MAX_RECORD_BYTES)
    offset = 0
    while batch := list(itertools.islice(records, _RECORDS_PER_DECODE)):
        for record, identity in zip(batch, examples.decode_identities(batch), strict=True):
            yield offset, identity
            offset += tfrecord.framed_bytes(record)


def embeddings(path: str, file: BinaryIO, places: Sequence[int]) -> Iterator[Stored | Exception]:
    """Yields the embeddings at some places of a file, or in place of those that cannot be read the error.

    Args:
      path: of the file.
      file: opened for reading.
      places: as `identities` yields them, ascending.
    """
    for start in range(0, len(places), _RECORDS_PER_DECODE):
        yield from _embeddings(file, places[start : start + _RECORDS_PER_DECODE])


def _embeddings(file: BinaryIO, places: Sequence[int]) -> Sequence[Stored | Exception]:
    try:
        records = []
        for place in places:
            file.seek(place)
            records.append(next(tfrecord.read(file, _MAX_RECORD_BYTES), b""))
        _, matrix, _ = examples.decode_embeddings(records)
        decoded = zip(examples.decode_identities(records), examples.decode_facts(records), matrix, strict=True)
    except Exception as error:  # noqa: BLE001 - each storage client raises errors of its own
        if len(places) == 1:
            return [error]
        return [stored for place in places for stored in _embeddings(file, [place])]
    return [
        Stored(
            Embedding(ImageInfo(ImageRef(own.key, own.version, own.size, own.crc32c), own.sha256, *facts), vector),
            own.model_digest,
        )
        for own, facts, vector in decoded
    ]
