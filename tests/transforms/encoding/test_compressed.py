"""transforms.encoding.compressed: what is expanded, what is broken, and how much of it."""

import bz2
import gzip
import io
import lzma
import random
import zlib

import pytest

from transforms.encoding import compressed
from transforms.encoding.compressed import BrokenStream

CONTENT = random.Random(1).randbytes(200_000) + bytes(300_000)

COMPRESS = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
}


def expand(packed):
    return compressed.expanded(io.BytesIO(packed)).read()


@pytest.mark.parametrize("compress", COMPRESS.values(), ids=COMPRESS)
def test_what_was_compressed_is_expanded(compress):
    packed = compress(CONTENT)
    assert expand(packed) == CONTENT
    reader = compressed.expanded(io.BytesIO(packed))
    assert b"".join(iter(lambda: reader.read(777), b"")) == CONTENT
    assert expand(compress(b"")) == b""


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_streams_that_are_joined_and_padded(compress):
    assert expand(compress(b"one") + compress(b"") + bytes(100_000) + compress(b"two") + bytes(1024)) == b"onetwo"


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b", b"BZh is no bzip2", b"x is no zlib", CONTENT], ids=len)
def test_anything_else_stays_as_it_is(content):
    assert expand(content) == content


def test_what_is_plain_is_not_expanded():
    packed = gzip.compress(b"one")
    assert compressed.expanded(io.BytesIO(packed), lambda head: packed.startswith(head)).read() == packed


@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "xz"])
def test_a_truncated_stream_is_broken(name):
    packed = COMPRESS[name](CONTENT)
    for cut in (len(packed) - 1, len(packed) // 2, 17):
        with pytest.raises(BrokenStream, match="truncated"):
            expand(packed[:cut])


@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "xz"])
def test_a_flipped_bit_is_noticed_by_the_end(name):
    content = random.Random(2).randbytes(3000)
    packed = COMPRESS[name](content)
    for position in range(10, len(packed), 7):
        broken = bytearray(packed)
        broken[position] ^= 4
        with pytest.raises(BrokenStream):
            assert expand(bytes(broken)) != content or pytest.fail(f"{position} changes nothing")


def test_a_file_that_expands_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(compressed, "FREE_BYTES", 2**20)
    reader, read = compressed.expanded(io.BytesIO(gzip.compress(bytes(2**24)))), 0
    with pytest.raises(BrokenStream, match="more than 100 times its size, [0-9]+ bytes so far"):
        while content := reader.read(10_000):
            read += len(content)
    assert read < 2**23
    assert len(expand(gzip.compress(bytes(2**19)))) == 2**19  # a small file may expand as it likes


def test_an_xz_file_that_asks_for_much_memory_is_refused():
    packed = lzma.compress(b"small")
    assert expand(packed) == b"small"
    with pytest.raises(BrokenStream, match="Memory usage limit"):
        expand(_with_dictionary(packed, 40))  # 4 GiB


def _with_dictionary(xz, code):
    """Returns an .xz file whose header asks for another dictionary, in the code of LZMA2's properties."""
    header = bytearray(xz[12 : 12 + (xz[12] + 1) * 4])
    header[header.index(b"\x21\x01") + 2] = code
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    return xz[:12] + bytes(header) + xz[12 + len(header) :]
