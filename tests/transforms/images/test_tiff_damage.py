"""transforms.images.tiff_damage: broken strips of YCbCr TIFFs, over which libtiff's conversion says nothing."""

import itertools
import math
import struct
import zlib

import numpy as np
import pytest

from tests.helpers import generated_images as generated
from transforms.images import decoding, tiff_damage, tiff_kinds
from transforms.images.image_errors import CorruptImage

HEIGHT, WIDTH = generated.HEIGHT, generated.WIDTH
BROWN = (124, 86, 182)


def shorts(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def subsampled(across: int, down: int, compression: str, rows_per_strip: int) -> tuple[bytes, int]:
    """Returns a TIFF of BROWN, in blocks of `across` × `down` luminances and two differences.

    Also returns how many bytes its last strip has, which are the last of the file.
    """
    block = bytes([BROWN[0]] * across * down) + bytes(BROWN[1:])
    contents = []
    for top in range(0, HEIGHT, rows_per_strip):
        rows = math.ceil(min(rows_per_strip, HEIGHT - top) / down)
        content = block * (rows * math.ceil(WIDTH / across))
        contents.append(zlib.compress(content) if compression == "deflate" else generated._packbits(content))
    shape = np.zeros((HEIGHT, WIDTH, 3), np.uint64)
    more = [(530, 3, shorts(across, down)), (279, 4, struct.pack(f"<{len(contents)}L", *map(len, contents)))]
    plain = generated.write_tiff(shape, 8, 6, compression=compression, rows_per_strip=rows_per_strip, more=more)
    (entries,) = struct.unpack_from("<H", plain, 8)
    at = next(at for at in range(10, 10 + 12 * entries, 12) if struct.unpack_from("<H", plain, at) == (273,))
    count, value = struct.unpack_from("<LL", plain, at + 4)
    places = itertools.accumulate(map(len, contents[:-1]), initial=len(plain))
    offsets = struct.pack(f"<{len(contents)}L", *places)
    at = value if count > 1 else at + 8
    return plain[:at] + offsets + plain[at + len(offsets) :] + b"".join(contents), len(contents[-1])


@pytest.mark.parametrize("rows_per_strip", [4, HEIGHT])
@pytest.mark.parametrize("compression", ["deflate", "packbits"])
@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_a_broken_strip_is_noticed(across, down, compression, rows_per_strip):
    whole, last = subsampled(across, down, compression, rows_per_strip)
    pixels = decoding.decode(whole, (HEIGHT, WIDTH)).pixels.astype(int)
    assert np.abs(pixels - (200, 100, 50)).max() <= 2
    with pytest.raises(CorruptImage):  # 0x80 is nothing at all, in PackBits
        decoding.decode(whole[:-last] + b"\x80" * last, (HEIGHT, WIDTH))


@pytest.mark.parametrize(("planar", "is_tiled"), itertools.product((False, True), (False, True)))
def test_damage_in_planes_and_tiles_is_found(planar, is_tiled):
    samples = np.tile(np.array(BROWN, np.uint64), (40, 40, 1))
    encoded = generated.write_tiff(
        samples, 8, 6, "<", planar, "deflate", is_tiled, rows_per_strip=7, more=[(530, 3, shorts(1, 1))]
    )
    assert np.abs(decoding.decode(encoded, (40, 40)).pixels.astype(int) - (200, 100, 50)).max() <= 2
    with pytest.raises(CorruptImage):
        decoding.decode(encoded[:-9] + bytes(9), (40, 40))


def test_a_strip_without_a_place():
    encoded = bytearray(generated.write_tiff(np.zeros((8, 8, 3), np.uint64), 8, 6, more=[(530, 3, shorts(1, 1))]))
    at = encoded.index(shorts(273, 4))
    encoded[at + 8 : at + 12] = bytes(4)
    with pytest.raises(CorruptImage, match="no place"):
        decoding.decode(bytes(encoded), (8, 8))


def test_the_work_is_that_of_the_picture():
    """A file may have any number of strips, and any numbers for the sampling."""
    encoded, _ = subsampled(2, 2, "deflate", 4)
    with tiff_kinds.open_tiff(encoded) as image:
        tags = image.tag_v2
        parts = list(tiff_damage._parts(tags))
        assert len(parts) == 3 and sum(row * rows for (row, rows), _, _ in parts) == 6 * (WIDTH // 2) * 6
        for tag in (273, 279):
            tags[tag] = tags[tag] * 50
        assert list(tiff_damage._parts(tags)) == parts
        tags[530] = 65535, 65535
        with pytest.raises(OSError, match="1, 2 or 4"):
            list(tiff_damage._parts(tags))


def test_without_compression_nothing_is_decoded_again(monkeypatch):
    monkeypatch.setattr(tiff_damage, "_parts", lambda tags: pytest.fail("it was decoded"))
    encoded = generated.write_tiff(np.zeros((8, 8, 3), np.uint64), 8, 6, more=[(530, 3, shorts(1, 1))])
    decoding.decode(encoded, (8, 8))
