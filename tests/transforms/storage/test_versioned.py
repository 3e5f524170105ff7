"""transforms.storage.versioned: a ref is described where it must be, and gives what was listed or an error."""

import io
import os

import pytest

from tests.helpers import descriptors
from transforms.elements.records import ImageRef
from transforms.storage import versioned
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.stores import gcs
from transforms.storage.versioned import ChangedSinceListed


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    return path


def listed(path, **facts):
    return ImageRef(os.fsencode(path), **{"version": "3-1.000000", "size": 3} | facts)


def test_an_unlisted_file_is_described(path):
    assert versioned.described(DEFAULT_STORAGE, ImageRef(os.fsencode(path), has_copies=True)) == listed(
        path, has_copies=True
    )


def test_a_listed_ref_is_not_asked_for(tmp_path):
    ref = listed(tmp_path / "gone.jpg")
    assert versioned.described(DEFAULT_STORAGE, ref) is ref


def test_an_unlisted_object_is_described_first(server):
    gcs.client().bucket("photos").blob("a.jpg").upload_from_string(b"one")
    server.requests.clear()
    described = versioned.described(Storage("payer"), ImageRef(b"gs://photos/a.jpg"))
    assert described == ImageRef(b"gs://photos/a.jpg", described.version, 3, versioned.crc32c(b"one"))
    assert int(described.version) > 0
    assert len(server.requests) == 1 and server.queries()[0]["userProject"] == ["payer"]
    assert versioned.described(DEFAULT_STORAGE, described) is described and len(server.requests) == 1


def test_an_object_is_read_in_its_listed_generation_and_at_the_cost_of_the_payer(monkeypatch):
    asked = []
    monkeypatch.setattr(gcs, "read", lambda *args: asked.append(args) or b"one")
    monkeypatch.setattr(gcs, "opened", lambda *args: asked.append(args) or io.BytesIO(b"one"))
    ref = ImageRef(b"gs://photos/a.jpg", "7", 3)
    storage, path = Storage("payer"), "gs://photos/a.jpg"
    assert versioned.read(storage, ref, 100)[0] == b"one"
    with versioned.opened(storage, ref) as file:
        assert file.read() == b"one"
    assert asked == [(storage, path, "7", 4), (storage, path, "7")]  # a byte more than listed would be noticed


@pytest.mark.parametrize("facts", [{}, {"version": ""}, {"size": -1}, {"crc32c": versioned.crc32c(b"one")}])
def test_what_was_listed_is_read_with_its_checksum(path, facts):
    assert versioned.read(DEFAULT_STORAGE, listed(path, **facts), 100) == (b"one", versioned.crc32c(b"one"))


def test_other_bytes_of_the_same_size_and_time_are_told_by_their_checksum(path):
    path.write_bytes(b"two")
    os.utime(path, (1, 1))
    with pytest.raises(ChangedSinceListed, match="a.jpg: expected crc32c .+ as listed, found .+"):
        versioned.read(DEFAULT_STORAGE, listed(path, crc32c=versioned.crc32c(b"one")), 100)


def test_a_changed_file_is_not_even_opened(path):
    os.utime(path, (2, 2))
    with (
        pytest.raises(ChangedSinceListed, match="expected version 3-1.000000 as listed, found 3-2.000000"),
        versioned.opened(DEFAULT_STORAGE, listed(path)),
    ):
        pytest.fail("opened")


@pytest.mark.parametrize("version", ["", "3-1.000000"])
def test_a_file_that_is_gone(tmp_path, version):
    ref = listed(tmp_path / "gone.jpg", version=version)
    said = f"gone.jpg: expected version {version or 'any'} as listed, found nothing"
    with pytest.raises(ChangedSinceListed, match=said):
        versioned.read(DEFAULT_STORAGE, ref, 100)
    with pytest.raises(ChangedSinceListed, match=said), versioned.opened(DEFAULT_STORAGE, ref):
        pytest.fail("opened")


def test_an_opened_file_is_closed_at_the_end(path):
    with versioned.opened(DEFAULT_STORAGE, listed(path)) as file:
        assert file.read(2) + file.read() == b"one"
    assert file.closed


def test_an_error_of_who_reads_is_passed_on(path):
    with pytest.raises(ValueError, match="no tar") as error, versioned.opened(DEFAULT_STORAGE, listed(path)) as file:
        path.unlink()
        raise ValueError("no tar")
    assert type(error.value) is ValueError and file.closed


def test_no_more_than_one_byte_beyond_the_listed_size_is_read(path, monkeypatch):
    sizes = []
    open_regular = versioned.local.open_regular

    class Counting(io.BytesIO):
        def read(self, size=-1):
            sizes.append(size)
            return super().read(size)

    monkeypatch.setattr(versioned.local, "open_regular", lambda path: Counting(open_regular(path).read() * 1000))
    with pytest.raises(ChangedSinceListed, match="expected size 3 as listed, found more"):
        versioned.read(DEFAULT_STORAGE, listed(path), 100)
    content, _ = versioned.read(DEFAULT_STORAGE, listed(path, size=-1), 100)
    assert sizes == [4, 101] and len(content) == 101


def test_a_file_whose_size_means_nothing_is_not_read_to_its_end():
    mounts = ImageRef(b"/proc/self/mounts")
    described = versioned.described(DEFAULT_STORAGE, mounts)
    assert described.size == 0
    with pytest.raises(ChangedSinceListed, match="expected size 0 as listed, found more"):
        versioned.read(DEFAULT_STORAGE, described, 100)


@pytest.mark.parametrize("change", ["grows", "shrinks"])
def test_a_file_that_changes_while_it_is_read_from_front_to_end(path, change):
    path.write_bytes(bytes(10**6))
    os.utime(path, (1, 1))
    ref = listed(path, version="1000000-1.000000", size=10**6)
    read = 0
    with pytest.raises(ChangedSinceListed), versioned.opened(DEFAULT_STORAGE, ref) as file:
        while content := file.read(1000):
            read += len(content)
            if change == "grows":
                with path.open("ab") as end:
                    end.write(bytes(2000))
            elif read == 1000:
                os.truncate(path, 300_000)
    assert read == 10**6 if change == "grows" else read <= 10**6


def test_a_file_that_a_pipe_has_replaced_has_changed(path):
    ref = listed(path)
    path.unlink()
    os.mkfifo(path)
    message = "a.jpg: expected version 3-1.000000 as listed, found no regular file"
    with pytest.raises(ChangedSinceListed, match=message):
        versioned.read(DEFAULT_STORAGE, ref, 100)
    with pytest.raises(ChangedSinceListed, match=message), versioned.opened(DEFAULT_STORAGE, ref):
        pytest.fail("opened")
    never_listed = ImageRef(ref.key)
    for call in (versioned.described, lambda storage, ref: versioned.read(storage, ref, 100)):
        with pytest.raises(versioned.local.NotARegularFile, match="a named pipe"):
            call(DEFAULT_STORAGE, never_listed)


def test_checksum():
    assert versioned.crc32c(b"123456789") == "4waSgw=="  # E3069283, the check value of CRC-32C


def test_an_empty_file_that_grows_is_read_as_it_was_listed(path):
    path.write_bytes(b"")
    os.utime(path, (1, 1))
    with (
        pytest.raises(ChangedSinceListed, match="expected version 0-1.000000 as listed"),
        versioned.opened(DEFAULT_STORAGE, listed(path, version="0-1.000000", size=0)) as file,
    ):
        path.write_bytes(b"more")
        assert file.read() == b""


def test_a_file_that_was_read_leaves_no_descriptor_open(path):
    for size in (3, -1):
        with versioned.opened(DEFAULT_STORAGE, listed(path, size=size)) as file:
            assert file.read() == b"one"
        versioned.read(DEFAULT_STORAGE, listed(path, size=size), 100)
        assert descriptors.of(path) == 0


def test_a_file_that_has_changed_as_it_was_read_is_not_taken(path, monkeypatch):
    crc32c = versioned.crc32c

    def change(content):
        os.utime(path, (2, 2))
        return crc32c(content)

    monkeypatch.setattr(versioned, "crc32c", change)
    with pytest.raises(ChangedSinceListed, match="expected version 3-1.000000 as listed, found 3-2.000000"):
        versioned.read(DEFAULT_STORAGE, listed(path), 100)
