"""transforms.models.archives: hostile archives, none of which may write a byte, fill the memory or take minutes."""

import gzip
import io
import resource
import tarfile
import zipfile

import pytest

from transforms.models import archives

LIMIT = 1_000_000


def member(name, size=0, kind=tarfile.REGTYPE, **values):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def tar_of(*members, mode="w:gz", **arguments):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **arguments) as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(bytes(max(info.size, 0))))
    return buffer.getvalue()


def unpack(tmp_path, content):
    archive, directory = tmp_path / "m.tar.gz", tmp_path / "unpacked"
    archive.write_bytes(content)
    directory.mkdir()
    try:
        archives.unpack(archive, "model='m.tar.gz'", LIMIT, directory)
    finally:
        if not all(path.is_relative_to(directory) or path in (archive, directory) for path in tmp_path.rglob("*")):
            pytest.fail(f"something was written outside: {sorted(tmp_path.rglob('*'))}")
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_files_and_directories_are_unpacked(tmp_path, mode):
    members = [member("./m", kind=tarfile.DIRTYPE, mode=0o755), member("m/" + "n" * 150, 70_000), member("m/b", 3)]
    assert unpack(tmp_path, tar_of(*members, mode=mode)) == ["m", "m/b", "m/" + "n" * 150]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../evil", 1)], r"its member '\.\./evil' leads out of the archive"),
        ([member("a/../../evil", 1)], "leads out of the archive"),
        ([member("/evil", 1)], "leads out of the archive"),
        ([member("a", kind=tarfile.SYMTYPE, linkname="/etc/passwd")], "its member 'a' is a link or a device"),
        ([member("a", kind=tarfile.SYMTYPE, linkname="b"), member("b", 1)], "is a link or a device"),
        ([member("b", 1), member("a", kind=tarfile.LNKTYPE, linkname="b")], "is a link or a device"),
        ([member("a", kind=tarfile.CHRTYPE, devmajor=1, devminor=5)], "is a link or a device"),
        ([member("a", kind=tarfile.FIFOTYPE)], "is a link or a device"),
        ([member("a", LIMIT - 1), member("b", 2)], "unpacks to more than 1000000 bytes"),
    ],
    ids=["parent", "parent inside", "absolute", "link out", "link", "hard link", "device", "pipe", "size"],
)
def test_a_hostile_member_is_refused_before_anything_is_unpacked(tmp_path, members, message):
    with pytest.raises(ValueError, match=rf"^model='m\.tar\.gz': .*{message}"):
        unpack(tmp_path, tar_of(member("first", 10), *members))
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    assert len(unpack(tmp_path, tar_of(*(member(str(n)) for n in range(3))))) == 3
    with (tmp_path / "m").open("w+b") as file, pytest.raises(ValueError, match="^m: unpacks to more than 3 files$"):
        file.write(tar_of(*(member(str(n)) for n in range(4))))
        archives.check(file, "m", LIMIT)


def header(name, size, kind=tarfile.REGTYPE):
    return member(name, size, kind).tobuf(tarfile.GNU_FORMAT)


def test_a_bomb_is_refused_by_its_first_header(tmp_path):
    """The stated size decides, so 100 GB that compress to nothing take no time."""
    with pytest.raises(ValueError, match="unpacks to more than 1000000 bytes"):
        unpack(tmp_path, gzip.compress(header("bomb", 100 * 10**9) + bytes(10**6)))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_fills_the_memory_is_refused(tmp_path, kind):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=1) as file:
        file.write(header("h", 300 * 2**20, kind))
        for _ in range(300):
            file.write(b"x" * 2**20)
    with pytest.raises(ValueError, match="a member has a header of more than 1048576 bytes"):
        unpack(tmp_path, bomb.getvalue())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10  # KiB


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        gzip.compress(b"no tar"),
        tar_of(member("a", 5000))[:-20],
        tar_of(member("a", 5000), mode="w")[:3000],
        b"\x1f\x8b" + bytes(100),
        b"BZh9" + bytes(100),
        b"\xfd7zXZ\x00" + bytes(100),
        header("a", 10)[:-1],
    ],
    # Names of their own, because gzip writes the time into the bytes.
    ids=["empty", "text", "no tar", "cut gzip", "cut tar", "gzip", "bzip2", "xz", "cut header"],
)
def test_a_broken_archive_is_said_in_one_line(tmp_path, content):
    with pytest.raises(ValueError, match=r"^model='m\.tar\.gz': not a readable tar file: [^\n]+$"):
        unpack(tmp_path, content)


def test_a_negative_size_ends(tmp_path):
    """tarfile would go back to the same header for ever (CVE-2025-8194)."""
    with pytest.raises(ValueError, match="negative size|not a readable tar file"):
        unpack(tmp_path, header("a", -512) + bytes(2048))


def keras_file(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in members:
            archive.writestr(name, bytes(size))
    return path


def test_a_keras_file_is_bounded(tmp_path):
    archives.check_keras(keras_file(tmp_path / "good", ("config.json", 10), ("model.weights.h5", 1000)), "m", LIMIT)
    with pytest.raises(ValueError, match="^m: unpacks to more than 1000000 bytes"):
        archives.check_keras(keras_file(tmp_path / "bomb", ("model.weights.h5", LIMIT + 1)), "m", LIMIT)
    with pytest.raises(ValueError, match="^m: its configuration has more than"):
        archives.check_keras(keras_file(tmp_path / "json", ("config.json", 2**26 + 1)), "m", 2**30)
    (tmp_path / "none").write_bytes(b"no zip file")
    with pytest.raises(ValueError, match="^m: not a readable .keras file: "):
        archives.check_keras(tmp_path / "none", "m", LIMIT)


def test_as_many_bytes_as_are_allowed_are_unpacked(tmp_path):
    assert unpack(tmp_path, tar_of(member("a", LIMIT - 1), member("b", 1))) == ["a", "b"]


def test_a_name_with_a_zero_is_refused(tmp_path):
    info = member("a", 1, pax_headers={"path": "m\0evil"})
    with pytest.raises(ValueError, match="leads out of the archive|not a readable tar file"):
        unpack(tmp_path, tar_of(info, format=tarfile.PAX_FORMAT))
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_headers_of_many_members_may_have_more_bytes_than_that_of_one(tmp_path):
    assert len(unpack(tmp_path, tar_of(*(member(f"{number}") for number in range(2100))))) == 2100


def test_a_file_is_nobody_elses_program(tmp_path):
    unpack(tmp_path, tar_of(member("m", 1, mode=0o7777), member("d", kind=tarfile.DIRTYPE, mode=0o7777)))
    assert (tmp_path / "unpacked" / "m").stat().st_mode & 0o7022 == 0
    assert (tmp_path / "unpacked" / "d").stat().st_mode & 0o6002 == 0


def test_a_keras_file_may_have_just_as_much(tmp_path, monkeypatch):
    archives.check_keras(keras_file(tmp_path / "a", ("config.json", 10), ("w.h5", LIMIT - 10)), "m", LIMIT)
    with pytest.raises(ValueError, match="^m: unpacks to more than 1000000 bytes"):
        archives.check_keras(keras_file(tmp_path / "b", ("config.json", 11), ("w.h5", LIMIT - 10)), "m", LIMIT)
    monkeypatch.setattr(archives, "MAX_JSON_BYTES", 10)
    archives.check_keras(keras_file(tmp_path / "a", ("config.json", 10), ("w.h5", 99)), "m", LIMIT)
    with pytest.raises(ValueError, match="^m: its configuration has more than 10 bytes"):
        archives.check_keras(keras_file(tmp_path / "b", ("w.h5", 99), ("metadata.json", 11)), "m", LIMIT)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    archives.check_keras(keras_file(tmp_path / "a", ("a", 1), ("b", 1)), "m", LIMIT)
    with pytest.raises(ValueError, match="or 2 files"):
        archives.check_keras(keras_file(tmp_path / "b", ("a", 1), ("b", 1), ("c", 1)), "m", LIMIT)


def test_a_check_begins_at_the_front_of_a_file():
    file = io.BytesIO(tar_of(member("../evil", 1)))
    file.seek(0, io.SEEK_END)
    with pytest.raises(ValueError, match="leads out of the archive"):
        archives.check(file, "m", LIMIT)
