"""transforms.storage.stores.beam_filesystem: files of a filesystem that only Beam knows."""

import io
from typing import ClassVar

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from transforms.elements.records import ImageRef
from transforms.storage import contested, files, listing, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.errors import Forbidden, PreconditionFailed, StorageError
from transforms.storage.stores import beam_filesystem, is_bucket, of


class Memory(FileSystem):
    """Files of this process, path → (content, seconds); `refuses` is the status that it fails with."""

    contents: ClassVar[dict[str, tuple[bytes, float]]] = {}
    now = 0.0
    refuses: int | None = None

    @classmethod
    def scheme(cls):
        return "memory"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _checked(self, path, needed=True):
        if self.refuses:
            raise BeamIOError("failed", {path: self.refuses})
        if needed and path not in self.contents:
            raise BeamIOError(f"no such path: {path}")
        return path

    def _list(self, dir_or_prefix):
        self._checked(dir_or_prefix, needed=False)
        return [self.metadata(path) for path in sorted(self.contents, reverse=True) if path.startswith(dir_or_prefix)]

    def create(self, path, mime_type="", compression_type="auto"):
        self._checked(path, needed=False)
        return _Writer(path)

    def open(self, path, mime_type="", compression_type="auto"):
        if path not in self.contents:
            raise BeamIOError("Open failed", {path: FileNotFoundError(path)})
        return io.BytesIO(self.contents[self._checked(path)][0])

    def copy(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            if source not in self.contents:
                raise BeamIOError("Copy failed", {(source, destination): FileNotFoundError(source)})
            Memory.contents[destination] = self.contents[self._checked(source)][0], Memory.now

    def rename(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def exists(self, path):
        return path in self.contents

    def size(self, path):
        return len(self.contents[path][0])

    def last_updated(self, path):
        return self.contents[path][1]

    def checksum(self, path):
        raise NotImplementedError

    def metadata(self, path):
        self._checked(path)
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths):
        for path in paths:
            if path not in self.contents:
                raise BeamIOError("Delete failed", {path: FileNotFoundError(path)})
            del Memory.contents[self._checked(path)]


class _Writer(io.BytesIO):
    def __init__(self, path):
        super().__init__()
        self._path = path

    def close(self):
        if not self.closed:
            Memory.contents[self._path] = self.getvalue(), Memory.now
        super().close()


@pytest.fixture(autouse=True)
def contents(monkeypatch):
    monkeypatch.setattr(Memory, "contents", {})
    monkeypatch.setattr(Memory, "now", 1.5)
    return Memory.contents


def test_it_is_found_by_its_scheme_and_is_no_bucket():
    assert of("memory://b/a") is beam_filesystem and not is_bucket("memory://b/a")


def test_a_file_is_written_described_and_read(contents):
    files.write("memory://b/a.gz", b"as stored")
    assert contents == {"memory://b/a.gz": (b"as stored", 1.5)}
    found = files.described("memory://b/a.gz")
    assert found == ("memory://b/a.gz", "9-1.500000", 9, "", 1.5)
    assert files.read("memory://b/a.gz") == b"as stored"
    assert beam_filesystem.read(DEFAULT_STORAGE, found.path, found.version, 2) == b"as"
    files.copy("memory://b/a.gz", "memory://b/c")
    files.rename("memory://b/c", "memory://b/d")
    assert sorted(contents) == ["memory://b/a.gz", "memory://b/d"]
    files.remove("memory://b")
    assert contents == {}


def test_what_is_not_there():
    for call in (files.described, files.read, files.open_stored):
        with pytest.raises(FileNotFoundError, match="memory://b/a"):
            call("memory://b/a")
    with pytest.raises(FileNotFoundError):
        files.rename("memory://b/a", "memory://b/c")
    assert files.state("memory://b/a") is None and files.match("memory://b/*") == []
    files.remove_file("memory://b/a")
    files.remove_in_state("memory://b/a", "3-1.500000")


@pytest.mark.parametrize("call", [files.described, files.read, files.match, files.create, files.remove_file])
def test_a_filesystem_that_fails(monkeypatch, contents, call):
    files.write("memory://b/a", b"x")
    monkeypatch.setattr(Memory, "refuses", 403)
    with pytest.raises(Forbidden):
        call("memory://b/a")
    monkeypatch.setattr(Memory, "refuses", 500)
    with pytest.raises(StorageError):
        call("memory://b/a")


def test_a_pattern_matches_as_on_this_machine(contents):
    for name in ("a.jpg", "in/b.jpg", "in/deep/c.jpg", "in/d.png"):
        files.write(f"memory://b/{name}", b"x")

    def matches(pattern, limit=None):
        return sorted(found.path.removeprefix("memory://b/") for found in files.match(f"memory://b/{pattern}", limit))

    assert matches("**.jpg") == matches("**/*.jpg") == ["a.jpg", "in/b.jpg", "in/deep/c.jpg"]
    assert (
        matches("*") == ["a.jpg"]
        and matches("in/*.jpg") == ["in/b.jpg"]
        and matches("in/**/c.jpg") == ["in/deep/c.jpg"]
    )
    assert len(matches("**", 2)) == len(matches("in/*", 1)) + 1 == 2


@pytest.mark.parametrize("pattern", ["memory://b/in/*", "memory://b/in/**", "memory://b/in/", "memory://b/in"])
def test_images_are_listed_in_one_range(contents, pattern):
    """A name is first taken for that of a file, then for that of a directory."""
    contents |= {"memory://b/in/a.jpg": (b"one", 2.0), "memory://b/in/b.txt": (b"", 2.0), "memory://b/c.jpg": (b"", 1)}
    assert listing.ranges(DEFAULT_STORAGE, pattern) == [("", "")]
    (ref,) = listing.refs(DEFAULT_STORAGE, Choice([pattern]))
    assert ref == ImageRef(b"memory://b/in/a.jpg", "3-2.000000", 3)
    assert versioned.described(DEFAULT_STORAGE, ImageRef(ref.key)) == ref
    assert versioned.read(DEFAULT_STORAGE, ref, 100)[0] == b"one"
    with versioned.opened(DEFAULT_STORAGE, ref) as file:
        assert file.read(1) + file.read() == b"one"


def test_a_file_that_has_changed_is_told_by_its_size(contents):
    contents["memory://b/a"] = b"three", 2.0
    with pytest.raises(versioned.ChangedSinceListed, match="expected size 3 as listed, found more"):
        versioned.read(DEFAULT_STORAGE, ImageRef(b"memory://b/a", "3-1.000000", 3), 100)


def test_a_file_is_written_and_removed_in_the_state_that_was_seen(contents, monkeypatch):
    path = "memory://b/claim"
    first = contested.write(path, b"first", None)
    with pytest.raises(contested.Lost):
        contested.write(path, b"other", None)
    monkeypatch.setattr(Memory, "now", 2.5)
    second = contested.write(path, b"second", first)
    with pytest.raises(contested.Lost):
        contested.write(path, b"other", first)
    with pytest.raises(PreconditionFailed, match=f"expected version {first}, found {second}"):
        beam_filesystem.write(DEFAULT_STORAGE, path, b"other", first)
    files.remove_in_state(path, first)
    assert contested.read(path) == (b"second", second)
    files.remove_in_state(path, second)
    assert contested.read(path) is None


def test_a_scheme_that_beam_does_not_know():
    with pytest.raises(ValueError, match="'memory2://b/a': expected gs://BUCKET/NAME"):
        beam_filesystem.check_scheme("memory2://b/a")
