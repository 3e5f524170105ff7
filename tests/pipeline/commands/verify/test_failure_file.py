"""pipeline.commands.verify.failure_file: each line is a failure, or says what is wrong with it."""

import io
import json

from pipeline.commands.verify import failure_file
from pipeline.commands.verify.failure_file import FailedImage

FAILURE = {"key": "a\udce9", "stage": "decode", "error": "E", "message": "", "retryable": False, "run_id": "r"}


def test_each_line_by_its_number():
    lines = [json.dumps(FAILURE), "[]", json.dumps(FAILURE | {"is_file": 1}), json.dumps(FAILURE | {"is_file": True})]
    first, second, third, last = failure_file.failures(io.BytesIO("\n".join([*lines, ""]).encode()), "r")
    assert first == (1, FailedImage(b"a\xe9", "decode", "E")) and last == (4, first[1])
    assert [(number, str(error)) for number, error in (second, third)] == [
        (2, "not a JSON object"),
        (3, "expected the field is_file of type bool"),
    ]
