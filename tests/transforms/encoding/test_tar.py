"""transforms.encoding.tar: members in order, and an error for each file that holds more, or less, than it should."""

import contextlib
import io
import os
import random
import tarfile
import time
import tracemalloc

import pytest

from transforms.encoding import tar

BLOCK = 512


def tar_file(*members, tar_format=tarfile.GNU_FORMAT, **pax_headers):
    """Returns a tar file of (name, content) or TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, pax_headers=pax_headers) as shard:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                shard.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                shard.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def header(name, size, kind=tarfile.REGTYPE, **changes):
    """Returns a header alone, which may state any size."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in changes.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


END = bytes(2 * BLOCK)


def read(content):
    """Returns (name, content) of all members."""
    return [(member.name, read()) for member, read in tar.members(io.BytesIO(content))]


def read_until_error(content):
    """Returns (name, content) of the members before the error, and the error."""
    members = []
    with pytest.raises(tarfile.TarError) as error:
        for member, read in tar.members(io.BytesIO(content)):
            members.append((member.name, read()))
    return members, str(error.value)


ONE, TWO, THREE = ("1.jpg", b"one"), ("2.jpg", b"two" * 400), ("3.jpg", b"three")


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_each_format(tar_format):
    deep = ("deep/" * 18 + "name.jpg", b"deep")
    assert read(tar_file(ONE, deep, TWO, tar_format=tar_format)) == [ONE, deep, TWO]
    assert read(tar_file(tar_format=tar_format)) == []


def test_long_names_and_bytes_that_are_not_utf_8():
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = os.fsdecode(b"x" * 3000 + b"/caf\xe9\n.jpg")
        assert read(tar_file((name, b"one"), TWO, tar_format=tar_format)) == [(name, b"one"), TWO]


def test_content_need_not_be_read():
    names = [member.name for member, _ in tar.members(io.BytesIO(tar_file(ONE, TWO, THREE)))]
    assert names == ["1.jpg", "2.jpg", "3.jpg"]


def test_every_cut_is_noticed():
    whole = tar_file(ONE, TWO, THREE)
    ends = [BLOCK * 2, BLOCK * 6, BLOCK * 8]
    for cut in [*range(1, ends[-1] + 1, 13), *ends]:
        members, _ = read_until_error(whole[:cut])
        # The content of the last member may be there, without the zeros that fill its block.
        assert members == [ONE, TWO, THREE][: len(members)]
        assert len(members) >= sum(end <= cut for end in ends), cut
    assert read(whole[: ends[-1] + BLOCK]) == [ONE, TWO, THREE]  # some programs write one empty block


def test_every_flipped_bit_of_a_header_is_noticed():
    whole = tar_file(ONE, TWO, THREE)
    for position in range(BLOCK * 2, BLOCK * 3):
        broken = bytearray(whole)
        broken[position] ^= 1
        try:
            members = read(bytes(broken))
        except tarfile.TarError:
            continue
        assert members == [ONE, TWO, THREE]  # in bytes of the header that mean nothing


def test_a_block_of_zeros_in_the_middle_is_not_the_end():
    whole = tar_file(ONE, TWO, THREE)
    members, error = read_until_error(whole[: BLOCK * 2] + bytes(BLOCK) + whole[BLOCK * 3 :])
    assert members == [ONE] and "after the end" in error


def test_joined_files_are_refused_and_not_cut():
    members, error = read_until_error(tar_file(ONE) + tar_file(TWO))
    assert members == [ONE] and "tar files that are joined are not read" in error


@pytest.mark.parametrize("size", [2**33 - 1, 2**62, -1, -(2**40)], ids=str)
def test_a_size_that_lies(size):
    start = time.monotonic()
    names = []
    with pytest.raises(tarfile.TarError):
        for member, _ in tar.members(
            io.BytesIO(tar_file(ONE)[: 2 * BLOCK] + header("lie.jpg", size) + b"x" * BLOCK + END)
        ):
            names.append(member.name)
    assert names == ["1.jpg", "lie.jpg"][: 1 if size < 0 else 2]
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("size", ["-1", "-99999", "9" * 30, "x", ""])
def test_a_pax_header_that_lies_about_the_size(size):
    info = tarfile.TarInfo("lie.jpg")
    info.pax_headers = {"size": size}
    content = tar_file(ONE, info, TWO, tar_format=tarfile.PAX_FORMAT)
    try:
        members = [member.name for member, _ in tar.members(io.BytesIO(content))]
    except (tarfile.TarError, ValueError):
        return
    assert members == ["1.jpg", "lie.jpg", "2.jpg"]  # a size that is no number is ignored


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE], ids=str
)
def test_a_header_of_2_gigabytes_is_not_read(kind):
    content = tar_file(ONE)[: 2 * BLOCK] + header("long", 2**31, kind)
    tracemalloc.start()
    try:
        members, error = read_until_error(content + bytes(2**24))
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert members == [ONE] and "headers of more than 1048576 bytes" in error


def test_many_headers_before_a_member_are_given_up():
    long_name = header("long", 5, tarfile.GNUTYPE_LONGNAME) + b"x.jpg".ljust(BLOCK, b"\0")
    members, error = read_until_error(long_name * 2000 + tar_file(ONE))
    assert members == [] and ("headers of more than" in error or "RecursionError" in error)


def test_many_global_headers_are_given_up(monkeypatch):
    monkeypatch.setattr(tar, "MAX_HEADER_BYTES", 4096)
    headers = [tarfile.TarInfo.create_pax_global_header({f"key{i}": "x" * 900}) for i in range(5)]
    members, error = read_until_error(b"".join(block + tar_file(ONE)[: 2 * BLOCK] for block in headers) + END)
    assert members == [ONE] * 4
    assert "global headers of more than 4096 bytes" in error


def sparse(parts, size, content):
    """Returns a sparse member in the old GNU format: `parts` are (offset, size) of the data in a file of `size`."""
    entries = [b"%011o\0%011o\0" % part for part in parts]
    block = bytearray(header("sparse.jpg", len(content), tarfile.GNUTYPE_SPARSE))
    block[386:482] = b"".join(entries[:4]).ljust(96, b"\0")
    block[482] = len(entries) > 4
    block[483:495] = b"%011o\0" % size
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    extensions = b""
    for start in range(4, len(entries), 21):
        more = start + 21 < len(entries)
        extensions += (b"".join(entries[start : start + 21]).ljust(504, b"\0") + bytes([more])).ljust(BLOCK, b"\0")
    return bytes(block) + extensions + content.ljust(-len(content) % BLOCK + len(content), b"\0")


def test_a_sparse_member():
    assert read(sparse([(2, 3), (1000, 2)], 1002, b"abcde") + tar_file(ONE)) == [
        ("sparse.jpg", b"\0\0abc" + bytes(995) + b"de"),
        ONE,
    ]


def test_a_sparse_member_of_many_parts_costs_itself():
    parts = [(2 * i, 1) for i in range(1100)]
    (large, content), (small, _) = tar.members(io.BytesIO(sparse(parts, 2200, b"x" * 1100) + tar_file(ONE)))
    assert (large.name, small.name) == ("sparse.jpg", "1.jpg")
    with pytest.raises(tar.TooManyParts, match="more than 1000 parts"):
        content()


def test_a_sparse_map_without_end_is_given_up():
    members, error = read_until_error(sparse([(0, 0)] * 60_000, 10, b"") + tar_file(ONE))
    assert members == [] and "headers of more than" in error


def test_whatever_it_holds_there_is_an_error_or_an_end():
    chance = random.Random(3)
    whole = tar_file(ONE, ("n" * 200, b"x"), TWO) + sparse([(2, 3)], 9, b"abc")
    pax = tar_file(ONE, ("n" * 200, b"x"), TWO, tar_format=tarfile.PAX_FORMAT, comment="c" * 30)
    for _ in range(500):
        broken = bytearray(chance.choice([whole, pax]))
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(len(broken))] = chance.choice([0, 1, 32, 48, 55, 120, 128, 255])
        for start in range(0, len(broken), BLOCK):  # a checksum that holds lets more through
            block = broken[start : start + BLOCK]
            if block[257:262] == b"ustar":
                block[148:156] = b"        "
                broken[start + 148 : start + 156] = b"%06o\0 " % sum(block)
        with contextlib.suppress(tarfile.TarError, ValueError):
            read(bytes(broken))


def test_many_members_take_no_memory():
    content = tar_file(*((f"{i}.txt", b"") for i in range(3_000)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in tar.members(io.BytesIO(content))) == 3_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [-BLOCK, -2 * BLOCK])
def test_a_sparse_member_that_overlaps_the_one_before_is_not_given(size):
    """A sparse member has two sizes, and the one of its stored parts says where the next member begins."""
    lying = bytearray(sparse([(0, 3)], 3, b""))
    lying[124:136] = header("sparse.jpg", size)[124:136]
    lying[148:156] = b"        "
    lying[148:156] = b"%06o\0 " % sum(lying[:BLOCK])
    members, error = read_until_error(tar_file(ONE)[: 2 * BLOCK] + bytes(lying) + tar_file(TWO))
    assert members == [ONE] and "a header that states 3 bytes" in error


def peak(content):
    """Returns the members before the error, if there is one, and the most memory that reading took."""
    names = []
    tracemalloc.start()
    try:
        with contextlib.suppress(tarfile.TarError):
            for member, _ in tar.members(content):
                names.append(member.name)
        return names, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (lambda: tar_file(ONE) + bytes(2**26), ["1.jpg"]),
        (
            lambda: tar_file(ONE)[: 2 * BLOCK] + header("long", -BLOCK, tarfile.GNUTYPE_LONGNAME) + bytes(2**26),
            ["1.jpg"],
        ),
        (lambda: header("large", 2**26) + bytes(2**26) + tar_file(ONE), ["large", "1.jpg"]),
    ],
    ids=["zeros behind the end", "a name of a negative size", "a member that is passed over"],
)
def test_what_is_not_asked_for_takes_no_memory(content, names):
    found, most = peak(io.BytesIO(content()))
    assert found == names and most < 2**23


def test_a_member_may_be_larger_than_headers_may():
    large = ("large.jpg", bytes(range(256)) * 12_000)
    assert len(large[1]) > 2 * tar.MAX_HEADER_BYTES
    assert read(tar_file(large, ONE)) == [large, ONE]


def test_a_sparse_member_may_have_a_thousand_parts():
    parts = [(2 * i, 1) for i in range(1000)]
    assert read(sparse(parts, 2000, b"x" * 1000) + tar_file(ONE)) == [("sparse.jpg", b"x\0" * 1000), ONE]


def test_a_file_is_read_forwards_alone():
    source = tar._Forward(io.BytesIO(bytes(4 * BLOCK)))
    source.seek(2 * BLOCK)
    source.read(BLOCK)
    source.seek(3 * BLOCK)
    with pytest.raises(tarfile.ReadError, match="a header that leads backwards"):
        source.seek(3 * BLOCK - 1)
    with pytest.raises(tarfile.ReadError, match="unexpected end of data"):
        source.seek(5 * BLOCK)
