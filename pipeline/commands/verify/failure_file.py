"""Files of failures, read without the code that wrote them: JSON lines, one for each image that failed."""

import json
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

# A message has at most 500 characters, and a name some thousands.
_MAX_LINE_BYTES = 2**20
_TYPES = {"key": str, "stage": str, "error": str, "message": str, "retryable": bool, "run_id": str}


class FailedImage(NamedTuple):
    """What a failure says: the key of the image, and what failed."""

    key: bytes
    stage: str
    error: str


def failures(file: BinaryIO, run_id: str) -> Iterator[tuple[int, FailedImage | ValueError]]:
    """Yields for each line of a file its number from 1, and its failure of this run or what is wrong with the line."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        try:
            yield number, _failure(line, run_id)
        except ValueError as error:
            yield number, error


def _failure(line: bytes, run_id: str) -> FailedImage:
    if not line.endswith(b"\n"):
        raise ValueError("the line does not end")
    try:
        fields = json.loads(line.decode())
    except RecursionError as error:
        raise ValueError("not a JSON object") from error
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what is wrong is the file
    for name, kind in _TYPES.items():
        if not isinstance(fields.get(name), kind):
            raise ValueError(f"expected the field {name} of type {kind.__name__}")  # noqa: TRY004 - as above
    if fields["run_id"] != run_id:
        raise ValueError(f"it is of the run {fields['run_id']!r}")
    if not isinstance(fields.get("is_file", False), bool):
        raise ValueError("expected the field is_file of type bool")  # noqa: TRY004 - as above
    return FailedImage(fields["key"].encode("utf-8", "surrogateescape"), fields["stage"], fields["error"])
