"""transforms.storage.errors: what clients of stores raise is one error of this project, an OSError."""

import io
import pickle

import pytest
import requests
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from transforms.storage import errors


def _response(status):
    response = requests.Response()
    response.status_code, response.reason = status, "Because"
    return response


RAISED = {
    "503": (api.ServiceUnavailable("busy"), errors.StorageError, "gs://b/a: 503 busy"),
    "403": (api.Forbidden("not you"), errors.Forbidden, "gs://b/a: 403 not you"),
    "401": (api.Unauthorized("who?"), errors.Forbidden, "gs://b/a: 401 who?"),
    "404": (api.NotFound("gone"), errors.NotFound, "gs://b/a: 404 gone"),
    "412": (api.PreconditionFailed("changed"), errors.PreconditionFailed, "gs://b/a: 412 changed"),
    "retries": (
        api.RetryError("Timeout of 120.0s exceeded", api.Forbidden("not you")),
        errors.Forbidden,
        "gs://b/a: Timeout of 120.0s exceeded, last exception: 403 not you",
    ),
    "credentials": (RefreshError("reauthenticate"), errors.StorageError, "gs://b/a: reauthenticate"),
    "no connection": (requests.ConnectionError("refused"), errors.StorageError, "gs://b/a: refused"),
    "checksum": (DataCorruption(_response(200), "crc32c"), errors.StorageError, "gs://b/a: "),
    "response": (
        InvalidResponse(_response(403), "Request failed with status code", 403),
        errors.Forbidden,
        "gs://b/a: 403 Because",
    ),
    "S3": (S3ClientError("no such bucket", 404), errors.NotFound, "gs://b/a: "),
    # https://github.com/apache/beam: what its client of Cloud Storage makes of a batch that fails for good.
    "Beam's own": (
        AttributeError("'NoneType' object has no attribute 'status_code'"),
        errors.StorageError,
        "gs://b/a: 'NoneType' object has no attribute 'status_code'",
    ),
    "Beam's": (BeamIOError("no", {"gs://b/a": api.Forbidden("not you")}), errors.Forbidden, "gs://b/a: 403 not you"),
    "Beam's status": (BeamIOError("no", {"gs://b/a": 404}), errors.NotFound, "gs://b/a: "),
    "Beam's, twice": (BeamIOError("no", {"a": BeamIOError("no", {"a": 403})}), errors.Forbidden, "gs://b/a: "),
    "Beam's, empty": (BeamIOError("cannot copy"), errors.StorageError, "gs://b/a: cannot copy"),
}


@pytest.mark.parametrize(("error", "kind", "message"), RAISED.values(), ids=RAISED)
def test_an_error_of_a_client_is_one_of_this_project(error, kind, message):
    with pytest.raises(errors.StorageError) as raised, errors.of_clients("gs://b/a"):
        raise error
    assert type(raised.value) is kind and str(raised.value).startswith(message)
    assert raised.value.__cause__ is error


def test_the_kinds_are_those_of_the_operating_system():
    assert issubclass(errors.NotFound, FileNotFoundError) and issubclass(errors.Forbidden, PermissionError)


@pytest.mark.parametrize("kind", [errors.StorageError, errors.NotFound, errors.Forbidden, errors.PreconditionFailed])
def test_an_error_travels_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("gs://b/a: no")))  # noqa: S301 - written here
    assert (type(error), str(error)) == (kind, "gs://b/a: no")


class OfThisProject(errors.StorageError):
    pass


STAYS = {
    "operating system": PermissionError(13, "Permission denied", "/out"),
    "value": ValueError("no bucket"),
    "memory": MemoryError(),
    "own": OfThisProject("gs://b/a: lost"),
}


@pytest.mark.parametrize("error", STAYS.values(), ids=STAYS)
def test_other_errors_stay(error):
    for wrapped in (error, BeamIOError("no", {"gs://b/a": error})):
        with pytest.raises(type(error)) as raised, errors.of_clients("gs://b/a"):
            raise wrapped
        assert raised.value is error
        assert error.__cause__ is (None if wrapped is error else wrapped)  # an error of itself would have no end


def test_an_interruption_is_no_error_of_storage():
    with pytest.raises(KeyboardInterrupt), errors.of_clients("gs://b/a"):
        raise KeyboardInterrupt


def test_a_file_that_is_read():
    content = bytes(range(256)) * 4000
    with errors.reader(io.BytesIO(content), "gs://b/a") as file:
        assert file.read(5) == content[:5] and file.tell() == 5
        assert file.seek(-3, io.SEEK_END) == len(content) - 3 and file.read() == content[-3:]
        file.seek(0)
        assert file.read() == content and file.read(1) == b""
    with errors.reader(io.BytesIO(b"one\ntwo"), "gs://b/a") as file:
        assert list(file) == [b"one\n", b"two"]


def test_a_stream_of_a_client_cannot_be_sought():
    class Stream(io.BytesIO):
        def seekable(self):
            return False

    assert not errors.reader(Stream(b"one"), "gs://b/a").seekable()
    assert errors.reader(io.BytesIO(b"one"), "gs://b/a").seekable()


def test_few_requests_are_made_for_a_file_that_is_read_in_small_parts():
    sizes = []

    class Counting(io.BytesIO):
        def read(self, size=-1):
            sizes.append(size)
            return super().read(size)

    with errors.reader(Counting(bytes(1000)), "gs://b/a") as file:
        assert [file.read(10) for _ in range(100)] == [bytes(10)] * 100
    assert sizes == [2**18]


class Broken(io.RawIOBase):
    """A client's file whose requests fail."""

    def _fail(self, *args):
        raise api.ServiceUnavailable("busy")

    read = write = seek = tell = _fail

    def seekable(self):
        return True

    fails_to_close = False

    def close(self):
        if self.fails_to_close and not self.closed:
            super().close()
            self._fail()
        super().close()


@pytest.mark.parametrize(("method", "arguments"), [("read", ()), ("read", (5,)), ("seek", (0,)), ("tell", ())])
def test_a_file_that_cannot_be_read(method, arguments):
    with pytest.raises(errors.StorageError, match="^gs://b/a: 503 busy$"):
        getattr(errors.reader(Broken(), "gs://b/a"), method)(*arguments)


def test_a_file_that_cannot_be_written():
    file = errors.writer(Broken(), "gs://b/a")
    with pytest.raises(errors.StorageError, match="^gs://b/a: 503 busy$"):
        file.write(b"content")
    broken = Broken()
    broken.fails_to_close = True  # an upload ends there
    file = errors.writer(broken, "gs://b/a")
    with pytest.raises(errors.StorageError, match="^gs://b/a: 503 busy$"):
        file.close()
    assert file.closed and broken.closed
    file.close()


def test_a_file_of_a_client_is_closed_once():
    closed = []

    class Counting(io.BytesIO):
        def close(self):
            closed.append(self)
            super().close()

    file = errors.writer(Counting(), "gs://b/a")
    file.close()
    file.close()
    assert len(closed) == 1


def test_a_file_that_is_written():
    sink = io.BytesIO()
    file = errors.writer(sink, "gs://b/a")
    assert file.write(b"content") == 7 and file.tell() == 7
    assert sink.getvalue() == b"content"
    file.close()
    assert sink.closed
