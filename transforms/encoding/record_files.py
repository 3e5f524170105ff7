"""Files of embeddings in any format, read again: the suffix of a file's name is its format. No Beam.

A record is found again by its place: in a TFRecord file the byte at which it begins, in a Parquet file its row.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from transforms.encoding import examples, parquet, tfrecord
from transforms.encoding.stored_embeddings import Identity, StoredEmbedding, StoredVectors

# Far above any embedding: it limits the memory that a reader of a broken file allocates.
MAX_RECORD_BYTES = 2**26
_RECORDS_PER_DECODE = 256


def identities(
    path: str, file: BinaryIO, *, vector_type: str = "float32", may_break_off: bool = False
) -> Iterator[tuple[int, Identity]]:
    """Yields the place and the identity of each embedding of a file, in order.

    Args:
      path, file: the name of the file, and the file opened for reading.
      vector_type: of the reader. A reader of float32 gets no embeddings in float16.
      may_break_off: whether the file may be unfinished. It is then read up to its last whole record. A Parquet file
        without its footer has none.

    Raises:
      ValueError: if the file is broken, or holds something else.
    """
    if path.endswith(parquet.SUFFIX):
        batches = (parquet.whole_identities if may_break_off else parquet.identities)(file, vector_type)
        yield from enumerate(itertools.chain.from_iterable(batches))
        return
    records = (tfrecord.read_whole if may_break_off else tfrecord.read)(file, MAX_RECORD_BYTES)
    offset = 0
    while batch := list(itertools.islice(records, _RECORDS_PER_DECODE)):
        if vector_type == "float32" and examples.vector_type(batch[0]) != "float32":  # as all others of the file
            return
        for record, identity in zip(batch, examples.decode_identities(batch), strict=True):
            yield offset, identity
            offset += tfrecord.framed_bytes(record)


def embeddings(path: str, file: BinaryIO, places: Sequence[int]) -> Iterator[StoredEmbedding | Exception]:
    """Yields the embeddings at some places of a file, or the error in place of those that cannot be read.

    `places` are as `identities` yields them, ascending.
    """
    if path.endswith(parquet.SUFFIX):
        yield from parquet.embeddings(file, places)
        return
    for start in range(0, len(places), _RECORDS_PER_DECODE):
        yield from _records(file, places[start : start + _RECORDS_PER_DECODE])


def vectors(path: str, file: BinaryIO) -> Iterator[StoredVectors]:
    """Yields the vectors of a file, in order. Raises ValueError if it is broken, or holds something else."""
    if path.endswith(parquet.SUFFIX):
        yield from parquet.vectors(file)
        return
    records = tfrecord.read(file, MAX_RECORD_BYTES)
    while batch := list(itertools.islice(records, _RECORDS_PER_DECODE)):
        yield examples.decode_embeddings(batch)


def _records(file: BinaryIO, offsets: Sequence[int]) -> Sequence[StoredEmbedding | Exception]:
    try:
        records = []
        for offset in offsets:
            file.seek(offset)
            records.append(next(tfrecord.read(file, MAX_RECORD_BYTES), b""))
        return _decoded(records)
    except (OSError, ValueError) as error:
        if len(offsets) == 1:
            return [error]
        return [stored for offset in offsets for stored in _records(file, [offset])]


def _decoded(records: Sequence[bytes]) -> list[StoredEmbedding]:
    identities, facts = examples.decode_identities(records), examples.decode_facts(records)
    return list(map(Identity.with_vector, identities, facts, examples.decode_embeddings(records).matrix))
