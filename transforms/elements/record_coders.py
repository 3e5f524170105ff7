"""The coders of the records, registered for their types when this module is imported.

Beam's joins pickle records, and the local runner holds what it groups as objects. So the stages join bytes, which take
a fifth of the room: see `to_bytes` and `of_bytes`.
"""

import dataclasses
import types
import typing
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from apache_beam import coders

from transforms.elements import records

RecordT = TypeVar("RecordT")


class _ArrayCoder(coders.Coder):
    """Encodes NumPy arrays of one dtype as the shape and the raw bytes, without pickling."""

    def __init__(self, dtype: type[np.generic]):
        self._dtype = dtype
        self._parts = coders.TupleCoder([coders.IterableCoder(coders.VarIntCoder()), coders.BytesCoder()])

    def encode(self, value: npt.NDArray[Any]) -> bytes:
        encoded: bytes = self._parts.encode((value.shape, np.ascontiguousarray(value, self._dtype).tobytes()))
        return encoded

    def decode(self, encoded: bytes) -> npt.NDArray[Any]:
        shape, raw = self._parts.decode(encoded)
        return np.frombuffer(raw, self._dtype).reshape(tuple(shape))

    def is_deterministic(self) -> bool:
        return True


class RecordCoder(coders.Coder):
    """Encodes a record as the tuple of its fields, each by the coder of its type: compact, deterministic, no pickle."""

    def __init__(self, record: type):
        self._record = record
        hints = typing.get_type_hints(record)
        self._names = tuple(field.name for field in dataclasses.fields(record))
        self._tuple = coders.TupleCoder([_FIELD_CODERS[hints[name]] for name in self._names])

    def encode(self, value: Any) -> bytes:
        encoded: bytes = self._tuple.encode(tuple(getattr(value, name) for name in self._names))
        return encoded

    def decode(self, encoded: bytes) -> Any:
        return self._record(*self._tuple.decode(encoded))

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        return self._record

    @classmethod
    def from_type_hint(cls, typehint: type, unused_registry: Any) -> "RecordCoder":
        return cls(typehint)


_FIELD_CODERS: dict[Any, coders.Coder] = {
    bytes: coders.BytesCoder(),
    str: coders.StrUtf8Coder(),
    int: coders.VarIntCoder(),
    bool: coders.BooleanCoder(),
    float: coders.FloatCoder(),
    npt.NDArray[np.uint8]: _ArrayCoder(np.uint8),
    npt.NDArray[np.float32]: _ArrayCoder(np.float32),
}
_RECORDS = [each for each in vars(records).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
_CODERS: dict[type, RecordCoder] = {}
for _record in _RECORDS:  # in their order: later ones hold earlier ones
    _CODERS[_record] = _FIELD_CODERS[_record] = RecordCoder(_record)
    _FIELD_CODERS[types.GenericAlias(tuple, (_record, ...))] = coders.TupleSequenceCoder(_CODERS[_record])
    coders.registry.register_coder(_record, RecordCoder)


def to_bytes(record: Any) -> bytes:
    """Returns a record as its coder encodes it."""
    return _CODERS[type(record)].encode(record)


def of_bytes(record: type[RecordT], encoded: bytes) -> RecordT:
    """Returns the record of a type that `to_bytes` encoded."""
    decoded: RecordT = _CODERS[record].decode(encoded)
    return decoded
