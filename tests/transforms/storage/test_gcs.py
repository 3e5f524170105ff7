"""transforms.storage.gcs: one request an object, of one generation, billed to whom was named."""

import pytest
from google.api_core.exceptions import Forbidden, RetryError

from transforms.storage import gcs


def upload(name, content):
    blob = gcs.client().bucket("photos").blob(name)
    blob.upload_from_string(content)
    return gcs.describe(f"gs://photos/{name}", None)


def test_one_request_to_describe_and_one_to_read(server):
    content = bytes(range(256)) * 1000
    upload("a b/ü?#.jpg", content)
    server.requests.clear()
    found = gcs.describe("gs://photos/a b/ü?#.jpg", None)
    assert found == gcs.Stored(found.generation, len(content), gcs.crc32c(content)) and int(found.generation) > 0
    assert len(server.requests) == 1
    assert gcs.read("gs://photos/a b/ü?#.jpg", found.generation, None) == content
    assert [method for method, _ in server.requests] == ["GET", "GET"]
    assert server.queries()[-1]["generation"] == [found.generation]


def test_each_request_is_billed(server):
    stored = upload("a.jpg", b"content")
    server.requests.clear()
    gcs.describe("gs://photos/a.jpg", "payer")
    gcs.read("gs://photos/a.jpg", stored.generation, "payer")
    with gcs.open_stored("gs://photos/a.jpg", stored.generation, "payer") as file:
        assert file.read(3) + file.read(100) == b"content"
    assert len(server.requests) >= 3
    assert all(query["userProject"] == ["payer"] for query in server.queries())


def test_nothing_there(server):
    with pytest.raises(FileNotFoundError, match="gs://photos/a.jpg: no such object$"):
        gcs.describe("gs://photos/a.jpg", None)
    with pytest.raises(FileNotFoundError, match="no such object of generation 7"):
        gcs.read("gs://photos/a.jpg", "7", None)
    assert len(server.requests) == 2


def test_only_the_listed_generation_is_read(paging):
    first = upload("a.jpg", b"one")
    second = upload("a.jpg", b"one")
    assert first.crc32c == second.crc32c and first.generation != second.generation
    assert gcs.read("gs://photos/a.jpg", second.generation, None) == b"one"
    with pytest.raises(FileNotFoundError, match=f"generation {first.generation}"):
        gcs.read("gs://photos/a.jpg", first.generation, None)


def test_what_a_new_try_may_mend_is_tried_again(server):
    stored = upload("a.jpg", b"content")
    answers = [503, 429, 408]
    server.answer = lambda url: answers.pop() if answers else None
    assert gcs.read("gs://photos/a.jpg", stored.generation, None) == b"content"


def test_a_reply_that_never_comes_is_given_up(server, monkeypatch):
    stored = upload("a.jpg", b"content")
    server.requests.clear()
    monkeypatch.setattr(gcs, "TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(gcs, "RETRY", gcs.RETRY.with_timeout(2))
    server.delay = 1
    with pytest.raises(RetryError, match="Timeout of 2.0s exceeded"):
        gcs.read("gs://photos/a.jpg", stored.generation, None)
    assert len(server.requests) >= 2


def test_what_is_forbidden_is_not_tried_again(server):
    server.answer = lambda url: 403
    with pytest.raises(Forbidden):
        gcs.describe("gs://photos/a.jpg", None)
    assert len(server.requests) == 1


def test_the_time_for_an_object_is_bounded():
    # A connection that hangs costs half a minute, and all tries together little more than two minutes.
    assert gcs.TIMEOUT == (10, 30) and gcs.RETRY.timeout == 120 and gcs.RETRY._maximum <= 16


@pytest.mark.parametrize("path", ["gs://", "gs:///a", "gs://b*/a", "gs://b[1]/a"])
def test_paths_without_a_bucket(path):
    with pytest.raises(ValueError, match="expected gs://BUCKET/NAME"):
        gcs.split(path)


def test_a_bucket_is_no_object(server):
    with pytest.raises(ValueError, match="'gs://photos': expected gs://BUCKET/NAME of an object"):
        gcs.describe("gs://photos", None)


def test_checksum():
    assert gcs.crc32c(b"123456789") == "4waSgw=="  # E3069283, the check value of CRC-32C
