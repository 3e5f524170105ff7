"""Joins by key, and packs: for the local runner, many records cross between stages in one element.

The local runner holds in memory all that crosses. It keeps an element of a join as several objects, and its bytes in
several places. In a pack, a record takes a tenth of that memory, because the records of a run resemble each other.

On other runners each record is an element of its own. So any number of workers share the records, and no worker holds
more than one key.
"""

import dataclasses
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.transforms.window import GlobalWindows

from transforms.elements.record_coders import of_bytes, to_bytes
from transforms.elements.records import ImageRef
from transforms.elements.stage import Stage

# A worker holds the records of one bucket at a time. Of a million records, that is some thousands.
_BUCKETS = 256
# A bundle collects this many bytes of records before it packs them.
_MAX_BYTES = 2 << 20
# Refs in a pack: few enough for all threads to have some in a small run.
_REFS = 64

_PACK = coders.IterableCoder(coders.TupleCoder([coders.BytesCoder(), coders.BytesCoder()]))
_FAST = 1  # zlib's level

Keyed = tuple[bytes, bytes]


@dataclasses.dataclass(eq=False)
class JoinByKey(Stage):
    """{name: (key, record)} → (key, {name: the records with this key}), where keys and records are bytes.

    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     one = pipeline | "One" >> beam.Create([(b"key", b"1"), (b"key", b"2")])
    ...     other = pipeline | "Other" >> beam.Create([(b"key", b"3")])
    ...     _ = {"one": one, "other": other} | JoinByKey(in_packs=True) | beam.Map(print)
    (b'key', {'one': [b'1', b'2'], 'other': [b'3']})

    Attributes:
      in_packs: whether the records cross in packs. They then have to be in the global window.
    """

    in_packs: bool = False

    def expand(self, inputs: dict[str, beam.PCollection[Keyed]]) -> beam.PCollection:
        if not self.in_packs:
            return inputs | "CoGroupByKey" >> beam.CoGroupByKey()
        packs = [
            keyed | f"Pack{name.title()}" >> beam.ParDo(_Pack(name)).with_output_types(tuple[int, tuple[str, bytes]])
            for name, keyed in inputs.items()
        ]
        groups = packs | "Packs" >> beam.Flatten() | "SameBucket" >> beam.GroupByKey()
        return groups | "Unpack" >> beam.ParDo(_Unpack(tuple(inputs)))


@dataclasses.dataclass(eq=False)
class FlattenRefs(Stage):
    """ImageRef, in a tuple of collections → ImageRef.

    Attributes:
      in_packs: see JoinByKey.
    """

    in_packs: bool = False

    def expand(self, collections: tuple[beam.PCollection[ImageRef], ...]) -> beam.PCollection[ImageRef]:
        if not self.in_packs:
            return collections | "Flatten" >> beam.Flatten().with_output_types(ImageRef)
        packs = [
            refs | f"Pack{number}" >> beam.ParDo(_PackRefs()).with_output_types(bytes)
            for number, refs in enumerate(collections)
        ]
        return packs | "Flatten" >> beam.Flatten() | "Unpack" >> beam.FlatMap(_refs).with_output_types(ImageRef)


def by_key(key: Callable[[Any], bytes]) -> beam.PTransform:
    """Returns record → (its key, the record as bytes), as JoinByKey takes it."""
    return beam.Map(_keyed, key).with_output_types(Keyed)


def _keyed(record: Any, key: Callable[[Any], bytes]) -> Keyed:
    return key(record), to_bytes(record)


def pack(records: Sequence[Keyed]) -> bytes:
    """Returns keys and records as bytes, compressed."""
    return zlib.compress(_PACK.encode(records), _FAST)


def unpack(packed: bytes) -> Iterable[Keyed]:
    """Returns the keys and records of a pack."""
    keyed: Iterable[Keyed] = _PACK.decode(zlib.decompress(packed))
    return keyed


class _Pack(beam.DoFn):
    """(key, record) → (bucket, (name of the collection, pack))."""

    def __init__(self, name: str):
        self._name = name

    def start_bundle(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._buckets: defaultdict[int, list[Keyed]] = defaultdict(list)
        self._bytes = 0

    def process(self, keyed: Keyed) -> Iterable[tuple[int, tuple[str, bytes]]]:
        key, record = keyed
        self._buckets[zlib.crc32(key) % _BUCKETS].append(keyed)
        self._bytes += len(key) + len(record)
        if self._bytes >= _MAX_BYTES:
            yield from self._packs()

    def finish_bundle(self) -> Iterator[object]:
        return map(GlobalWindows.windowed_value, self._packs())

    def _packs(self) -> Iterator[tuple[int, tuple[str, bytes]]]:
        buckets = self._buckets
        self._forget()  # now, because a worker keeps this object after its last bundle
        for bucket, records in buckets.items():
            yield bucket, (self._name, pack(records))


class _Unpack(beam.DoFn):
    def __init__(self, names: Sequence[str]):
        self._names = names

    def process(self, bucket: tuple[int, Iterable[tuple[str, bytes]]]) -> Iterable[tuple[bytes, dict]]:
        groups: dict[bytes, dict[str, list[bytes]]] = {}
        for name, packed in bucket[1]:
            for key, record in unpack(packed):
                if key not in groups:
                    groups[key] = {each: [] for each in self._names}
                groups[key][name].append(record)
        yield from groups.items()


class _PackRefs(beam.DoFn):
    def start_bundle(self) -> None:
        self._refs: list[Keyed] = []

    def process(self, ref: ImageRef) -> Iterable[bytes]:
        self._refs.append((b"", to_bytes(ref)))
        if len(self._refs) == _REFS:
            yield self._pack()

    def finish_bundle(self) -> Iterator[object]:
        if self._refs:
            yield GlobalWindows.windowed_value(self._pack())

    def _pack(self) -> bytes:
        refs, self._refs = self._refs, []
        return pack(refs)


def _refs(packed: bytes) -> Iterator[ImageRef]:
    for _, ref in unpack(packed):
        yield of_bytes(ImageRef, ref)
