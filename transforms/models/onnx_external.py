"""External data of ONNX models: the names of the files that hold a model's tensors outside its own file.

The fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Only messages that may lead to a tensor
are entered, and nothing is copied, so a file of 2 GiB takes no memory here.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

# Models of thousands of layers have a million.
_MAX_FIELDS = 20_000_000

# Message → the number of a field → the message in it.
_MESSAGES = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_KEY, _VALUE = 1, 2  # fields of an entry

# Wire types: https://protobuf.dev/programming-guides/encoding
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def locations(file: Path) -> list[str]:
    """Returns the `location` of all external data in an ONNX file, each once, in their order.

    They are as the file states them, and not checked.

    Raises:
      ValueError: if the file is no protobuf message.
    """
    if file.stat().st_size == 0:
        raise ValueError(f"{str(file)!r} is empty: expected an ONNX model")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return list(dict.fromkeys(_locations(content)))
        except (IndexError, UnicodeDecodeError, _Malformed) as error:
            raise ValueError(f"{str(file)!r} is not an ONNX model: {error}") from error


class _Malformed(Exception):
    """Bytes that are no message."""


def _locations(content: mmap.mmap) -> Iterator[str]:
    visited = 0
    waiting = [("Model", 0, len(content))]
    while waiting:
        message, start, stop = waiting.pop()
        if message == "Entry":
            values = {number: content[first:last] for number, first, last in _fields(content, start, stop)}
            if values.get(_KEY) == b"location":
                yield values.get(_VALUE, b"").decode()
            continue
        inner = _MESSAGES[message]
        messages = []
        for number, first, last in _fields(content, start, stop):
            visited += 1
            if visited > _MAX_FIELDS:
                raise _Malformed(f"it has more than {_MAX_FIELDS} fields")
            if number in inner:
                messages.append((inner[number], first, last))
        waiting += reversed(messages)


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yields the fields of a message: number, and start and stop of the value. A value that is a number is empty."""
    at = start
    while at < stop:
        tag, at = _varint(content, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < tag < 2**32 or number == 0:
            raise _Malformed(f"a field has the number {number}")
        value = at
        if wire_type == _VARINT:
            _, at = _varint(content, at)
            value = at
        elif wire_type == _BYTES:
            size, value = _varint(content, at)
            at = value + size
        elif wire_type in (_FIXED32, _FIXED64):
            at = value = at + (4 if wire_type == _FIXED32 else 8)
        else:
            raise _Malformed(f"a field has the wire type {wire_type}")
        if at > stop:
            raise _Malformed("a field ends behind its message")
        yield number, value, at


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Returns the number at a position, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise _Malformed("a number has more than 10 bytes")
