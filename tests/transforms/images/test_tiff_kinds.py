"""transforms.images.tiff_kinds: kinds of TIFFs that Pillow does not know or misreads, and those that are refused."""

import itertools
import random
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.helpers import data_generation as data
from tests.helpers import generated_images as generated
from transforms.images import decoding, tiff_kinds
from transforms.images.image_errors import CorruptImage, UnsupportedColour, UnsupportedImage

GREY = np.full((8, 8, 1), 77, np.uint64)
RGB = np.full((8, 8, 3), 77, np.uint64)


def shorts(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def longs(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}L", *values)


def grey_kinds() -> list[tuple[object, ...]]:
    kinds = itertools.product((0, 1, 3), (1, 2, 4, 8, 12, 16, 32), ("none", "deflate", "packbits"), "<>", (False, True))
    return [kind for kind in kinds if kind[0] != 3 or kind[1] <= 8]


@pytest.mark.parametrize("in_a_plane", [False, True])
def test_grey_and_palettes_of_all_depths(in_a_plane):
    for photometric, depth, compression, order, is_tiled in grey_kinds():
        rng = random.Random(depth)
        samples = generated._samples(rng, 1, depth)
        colours = [rng.randrange(65536) for _ in range(3 << depth)] if photometric == 3 else None
        more = [(284, 3, struct.pack(f"{order}H", 2))] if in_a_plane else []
        encoded = generated.write_tiff(
            samples, depth, photometric, order, False, compression, is_tiled, 4, colours=colours, more=more
        )
        right = generated.tiff_colours(samples, depth, photometric, None, colours)
        found = decoding.decode(encoded, right.shape[:2]).pixels
        assert np.abs(found - right).max() <= 1.5, (photometric, depth, compression, order, is_tiled)


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize(("photometric", "bands"), [(1, 1), (2, 3)], ids=["grey", "RGB"])
def test_an_extra_sample_is_alpha_if_it_says_so(photometric, bands, extra):
    for depth, planar, compression, order in itertools.product((8, 16), (False, True), ("none", "deflate"), "<>"):
        if planar and bands == 1:
            continue
        samples = generated._samples(random.Random(extra), bands + 1, depth)
        if extra == 1:
            samples[..., :-1] = samples[..., :-1] * samples[..., -1:] // np.uint64((1 << depth) - 1)
        encoded = generated.write_tiff(samples, depth, photometric, order, planar, compression, extra=extra)
        right = generated.tiff_colours(samples, depth, photometric, extra, None)
        found = decoding.decode(encoded, right.shape[:2]).pixels
        # Pillow rounds down 16 bits, and divides by the alpha.
        assert np.abs(found - right).max() <= 2.5, (depth, planar, compression, order)


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_ycbcr_without_jpeg(compression):
    photograph = data.photograph(0, 16, 16)
    samples = np.asarray(photograph.convert("YCbCr")).astype(np.uint64)
    encoded = generated.write_tiff(samples, 8, 6, compression=compression, more=[(530, 3, shorts(1, 1))])
    found = decoding.decode(encoded, (16, 16)).pixels.astype(int)
    assert np.abs(found - np.asarray(photograph)).max() <= 4  # libtiff's conversion


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_lab_in_planes(compression):
    samples = generated._samples(random.Random(0), 3, 8)
    size = samples.shape[:2]
    right = decoding.decode(generated.write_tiff(samples, 8, 8), size).pixels
    found = decoding.decode(generated.write_tiff(samples, 8, 8, planar=True, compression=compression), size).pixels
    assert (found == right).all()


def test_no_profile_applies_to_lab():
    samples = generated._samples(random.Random(0), 3, 8)
    size = samples.shape[:2]
    right = decoding.decode(generated.write_tiff(samples, 8, 8), size).pixels
    found = decoding.decode(generated.write_tiff(samples, 8, 8, profile=data.swapped_profile()), size).pixels
    assert (found == right).all()


def edited(encoded: bytes, tag: int, **values: int) -> bytes:
    """Returns a little-endian TIFF with another `count` or `value` in the entry of a tag."""
    (entries,) = struct.unpack_from("<H", encoded, 8)
    at = next(at for at in range(10, 10 + 12 * entries, 12) if struct.unpack_from("<H", encoded, at) == (tag,))
    places = {"count": at + 4, "value": at + 8}
    for name, value in values.items():
        encoded = encoded[: places[name]] + longs(value) + encoded[places[name] + 4 :]
    return encoded


IN_STRIPS = generated.write_tiff(RGB, 8, 2, rows_per_strip=2)
IN_TILES = generated.write_tiff(np.full((40, 40, 3), 77, np.uint64), 8, 2, is_tiled=True)
IN_PLANES = generated.write_tiff(RGB, 8, 2, planar=True, rows_per_strip=8)
INCOMPLETE = {
    "two strips of four": edited(IN_STRIPS, 273, count=2),
    "eight tiles of nine": edited(IN_TILES, 324, count=8),
    "two planes of three": edited(IN_PLANES, 273, count=2),
    # As GDAL writes what has no data. There is the header.
    "a strip at the file's start": edited(generated.write_tiff(RGB, 8, 2, rows_per_strip=8), 273, value=0),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_part_that_is_missing_is_no_black_one(name):
    with pytest.raises(CorruptImage, match="strip"):
        decoding.decode(INCOMPLETE[name], (8, 8))


def test_parts_that_are_complete():
    with_rest = generated.write_tiff(np.full((8, 8, 4), 77, np.uint64), 8, 2, planar=True, extra=0)
    for encoded in (IN_STRIPS, IN_TILES, IN_PLANES, with_rest):
        assert (decoding.decode(encoded, (8, 8)).pixels == 77).all()


def test_strips_that_the_picture_has_no_place_for():
    samples = np.repeat(np.arange(8, dtype=np.uint64), 24).reshape(8, 8, 3)
    whole = generated.write_tiff(samples, 8, 2, rows_per_strip=2)
    shorter = edited(whole, 257, value=4)
    assert decoding.decode(shorter, (4, 8)).pixels[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_turned_picture_of_grey_and_alpha():
    samples = generated._samples(random.Random(0), 2, 16)
    upright = generated.tiff_colours(samples, 16, 1, 2, None)
    encoded = generated.write_tiff(samples, 16, 1, extra=2, more=[(274, 3, shorts(3))])
    assert np.abs(decoding.decode(encoded, upright.shape[:2]).pixels[::-1, ::-1] - upright).max() <= 2


def test_signed_samples_of_32_bits_are_cut_to_16():
    samples = np.array([[[2**32 - 5], [0], [65535], [70_000]]], np.uint64)  # the first is negative
    encoded = generated.write_tiff(samples, 32, 1, more=[(339, 3, shorts(2))])
    assert decoding.decode(encoded, (1, 4)).pixels[0, :, 0].tolist() == [0, 0, 255, 255]
    for order in "<>":
        encoded = generated.write_tiff(
            samples, 32, 1, order, compression="deflate", more=[(339, 3, struct.pack(f"{order}H", 2))]
        )
        assert decoding.decode(encoded, (1, 4)).pixels[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("depth", [8, 12, 16])
def test_grey_that_does_not_say_what_is_white_is_read_alike_in_all_depths(depth):
    levels = np.array([[[0], [1 << depth - 2], [(1 << depth) - 1]]], np.uint64)
    encoded = generated.write_tiff(levels, depth, 1).replace(shorts(262, 3), shorts(263, 3))
    assert decoding.decode(encoded, (1, 3)).pixels[0, :, 0].tolist() == [255, 191, 0]


def test_12_bits_are_rounded():
    levels = np.arange(4096, dtype=np.uint64).reshape(1, 4096, 1)
    pixels = decoding.decode(generated.write_tiff(levels, 12, 1), (1, 4096)).pixels
    assert pixels[0, :, 0].tolist() == [round(255 * level / 4095) for level in range(4096)]


def below(width: int, photometric: int, smaller: int = 0) -> bytes:
    """Returns a TIFF of 8×8 pixels with a directory below its own, and as many smaller ones behind that."""
    mark = longs(*[0xABCDEF] * (1 + smaller))
    picture = generated.write_tiff(RGB, 8, 2, more=[(330, 4, mark)])
    directories, starts = b"", []
    for size, kind in ((width, photometric), *[(1, 2)] * smaller):
        starts.append(len(picture) + len(directories))
        directories += shorts(3) + b"".join(
            struct.pack("<HHLL", tag, 4, 1, value) for tag, value in ((256, size), (257, size), (262, kind))
        )
        directories += longs(0)
    return picture.replace(mark, longs(*starts)) + directories


RAW = {
    "the version of a DNG": generated.write_tiff(RGB, 8, 2, more=[(50706, 1, b"\1\4\0\0")]),
    "samples of a sensor": generated.write_tiff(GREY, 16, 32803),
    "linear samples": generated.write_tiff(RGB, 16, 34892),
    "a reduced picture": generated.write_tiff(RGB, 8, 2, more=[(254, 4, longs(1))]),
    "a reduced picture, by the old tag": generated.write_tiff(RGB, 8, 2, more=[(255, 3, shorts(2))]),
    "a reduced picture that is a page": generated.write_tiff(RGB, 8, 2, more=[(254, 4, longs(3))]),
    "a larger one below it": below(9, 2),
    "a larger one and smaller ones below it": below(9, 2, smaller=3),
    "samples of a sensor below it": below(4, 32803),
    "the bytes of a CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(40),
    "the bytes of an IIQ": b"II*\0\x20\0\0\0IIIITwaR" + bytes(40),
}


@pytest.mark.parametrize("name", RAW)
def test_a_cameras_raw_file_is_no_thumbnail(name):
    with pytest.raises(UnsupportedImage, match="raw file"):
        decoding.decode(RAW[name], (8, 8))


@pytest.mark.parametrize(
    "encoded",
    [
        below(8, 2),
        generated.write_tiff(RGB, 8, 2, more=[(254, 4, longs(2))]),  # a page
        generated.write_tiff(RGB, 8, 2, more=[(255, 3, shorts(1))]),
    ],
)
def test_smaller_pictures_below_and_pages_are_no_matter(encoded):
    assert (decoding.decode(encoded, (8, 8)).pixels == 77).all()


def test_few_directories_below_are_looked_at(monkeypatch):
    loads = []
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", lambda *args: loads.append(1) or load(*args))
    tiff_kinds.open_tiff(below(1, 2, smaller=1000))
    assert len(loads) < 10


def test_a_number_of_samples_that_is_too_large_takes_no_memory():
    encoded = generated.write_tiff(GREY, 8, 1, more=[(277, 4, longs(5_000_000))])
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedImage):
            tiff_kinds.open_tiff(encoded)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


UNSUPPORTED = {
    "a palette of 16 bits": (generated.write_tiff(GREY, 16, 3, colours=[0] * 300), "a palette, 16 bits"),
    "Lab of 16 bits": (generated.write_tiff(RGB, 16, 8), r"CIELab, 16\+16\+16 bits"),
    "10 bits": (generated.write_tiff(GREY, 10, 1), "black is zero, 10 bits"),
    "14 bits": (generated.write_tiff(GREY, 14, 1), "14 bits"),
    "12 bits of RGB": (generated.write_tiff(RGB, 12, 2), r"RGB, 12\+12\+12 bits"),
    "a second sample that is not named": (generated.write_tiff(np.zeros((8, 8, 2), np.uint64), 8, 1), r"8\+8 bits"),
    "grey and alpha in planes": (
        generated.write_tiff(np.zeros((8, 8, 2), np.uint64), 8, 1, planar=True, extra=2),
        "in planes, extra samples 2",
    ),
    "a photometric interpretation that is not defined": (generated.write_tiff(GREY, 8, 99), "interpretation 99"),
    "JPEG 2000": (generated.write_tiff(RGB, 8, 2, more=[(259, 3, shorts(34712))]), "compression 34712"),
    "WebP": (generated.write_tiff(RGB, 8, 2, more=[(259, 3, shorts(50001))]), "WebP"),
    "16 bits of RGB, low bits first": (
        generated.write_tiff(RGB, 16, 2, more=[(266, 3, shorts(2))]),
        "bits of a byte rev",
    ),
    "a big-endian BigTIFF": (b"MM\0\x2b\0\x08\0\0" + bytes(7) + b"\x10" + bytes(100), "BigTIFF with the high byte"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_read_is_named(name):
    encoded, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedImage, match=message):
        decoding.decode(encoded, (8, 8))


@pytest.mark.parametrize(("depth", "kind"), [(16, 3), (32, 3), (8, 2), (16, 2), (32, 6)])
def test_samples_without_a_defined_range(depth, kind):
    with pytest.raises(UnsupportedColour, match="is not defined"):
        decoding.decode(generated.write_tiff(GREY, depth, 1, more=[(339, 3, shorts(kind))]), (8, 8))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [1, 99])
def test_a_directory_that_is_cut_is_no_kind(photometric, order):
    encoded = generated.write_tiff(RGB, 8, photometric, order, more=[(270, 2, b"described at some length\0")])
    end = encoded.index(b"length\0")
    for kept in range(4, end, 5):
        with pytest.raises(CorruptImage):
            decoding.decode(encoded[:kept], (8, 8))


def test_a_directory_is_whole_with_the_last_byte_of_its_data():
    for order in "<>":
        encoded = generated.write_tiff(RGB, 8, 99, order, more=[(270, 2, b"described at some length\0")])
        end = encoded.index(b"length\0") + 7
        assert tiff_kinds._is_directory_whole(encoded[:end]) and not tiff_kinds._is_directory_whole(encoded[: end - 1])
        with pytest.raises(UnsupportedImage, match="interpretation 99"):
            decoding.decode(encoded, (8, 8))


def test_the_directory_of_a_bigtiff():
    """Eight bytes lie in the entry itself, and nine behind the directory."""
    for order, name in (("<", b"II"), (">", b"MM")):
        head = name + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, 1)
        inline, behind = (struct.pack(f"{order}HHQQ", 270, 2, size, 10_000) for size in (8, 9))
        assert tiff_kinds._is_directory_whole(head + inline) and not tiff_kinds._is_directory_whole(head + behind)
        assert tiff_kinds._is_directory_whole((head + behind).ljust(10_009, b"\0"))
        assert not tiff_kinds._is_directory_whole(head + inline[:-1])


def test_a_directory_without_a_size_is_none():
    with pytest.raises(CorruptImage, match="or has none"):
        tiff_kinds.open_tiff(b"II*\0\x08\0\0\0" + bytes(6))


@pytest.mark.parametrize(("brightest", "expected"), [(255, 255), (256, 1)])
def test_a_palette_of_8_bits_is_one_of_no_more_than_255(brightest, expected):
    encoded = generated.write_tiff(np.zeros((8, 8, 1), np.uint64), 8, 3, colours=[brightest] * 768)
    assert (decoding.decode(encoded, (8, 8)).pixels == expected).all()


def test_prefixes():
    assert all(tiff_kinds.is_tiff(prefix) for prefix in TiffImagePlugin.PREFIXES)
    assert not tiff_kinds.is_tiff(data.jpeg())
    assert isinstance(
        tiff_kinds.open_tiff(data.encoded(Image.new("RGB", (2, 2)), "TIFF")), TiffImagePlugin.TiffImageFile
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_damage_in_a_strip_of_jpeg(mode):
    whole = data.encoded(data.photograph(0, 96, 128).convert(mode), "TIFF", compression="jpeg")
    with tiff_kinds.open_tiff(whole) as image:
        jpegs = list(image.jpegs(whole))
    assert jpegs and all(jpeg.startswith(b"\xff\xd8\xff") for jpeg in jpegs)
    assert decoding.decode(whole, (8, 8)).pixels.any()
    middle = whole.rindex(b"\xff\xda") + 600
    for damage in (bytes(300), b"\xff\xa4"):
        with pytest.raises(CorruptImage):
            decoding.decode(whole[:middle] + damage + whole[middle + len(damage) :], (8, 8))
    uncompressed = data.encoded(data.photograph(0, 8, 8), "TIFF")
    with tiff_kinds.open_tiff(uncompressed) as image:
        assert not list(image.jpegs(uncompressed))


def old_jpeg(jpeg: bytes) -> bytes:
    """Returns a TIFF of 128×96 with a whole JPEG, in the way of TIFF 6.0 (section 22)."""
    shape = np.zeros((96, 128, 3), np.uint64)
    more = [(259, 3, shorts(6)), (513, 4, longs(0)), (514, 4, longs(len(jpeg))), (530, 3, shorts(2, 2))]
    plain = generated.write_tiff(shape, 8, 6, rows_per_strip=96, more=more)[: -shape.size]
    for tag, value in ((513, len(plain)), (273, len(plain)), (279, len(jpeg))):
        plain = edited(plain, tag, value=value)
    return plain + jpeg


def test_damage_in_the_old_kind_of_jpeg():
    jpeg = data.encoded(data.photograph(0, 96, 128), "JPEG", subsampling=2, quality=95)
    whole = old_jpeg(jpeg)
    assert decoding.decode(whole, (8, 8)).pixels.std() > 10
    half = jpeg[: len(jpeg) // 2]
    for broken in (whole[: len(whole) // 2], old_jpeg(half + b"\xff\xd9"), old_jpeg(half + bytes(len(half)))):
        with pytest.raises(CorruptImage):
            decoding.decode(broken, (8, 8))


def test_the_old_kind_of_jpeg_in_parts():
    whole = old_jpeg(data.encoded(data.photograph(0, 96, 128), "JPEG", subsampling=2))
    parts = edited(whole, 514, value=300)  # up to the tables
    with tiff_kinds.open_tiff(parts) as image:
        assert list(image.jpegs(parts)) == []
        with pytest.raises(CorruptImage, match="ends before its pixels"):
            list(image.jpegs(parts[:-9]))


def test_a_raw_file_whose_first_directory_has_no_size():
    sensor = struct.pack("<H", 1) + struct.pack("<HHLHH", 262, 3, 1, 32803, 0) + bytes(4)
    first = struct.pack("<H", 1) + struct.pack("<HHLL", 330, 4, 1, 8) + bytes(4)
    encoded = b"II*\0" + struct.pack("<L", 8 + len(sensor)) + sensor + first
    with pytest.raises(UnsupportedImage, match="a camera's raw file"):
        decoding.decode(encoded, (8, 8))


def test_the_samples_of_a_sensor_behind_the_first_picture():
    picture = generated.write_tiff(RGB, 8, 2)
    assert decoding.decode(picture, (8, 8)).pixels.any()
    (at,) = struct.unpack_from("<L", picture, 4)
    (count,) = struct.unpack_from("<H", picture, at)
    following = at + 2 + 12 * count
    for photometric, is_raw in ((32803, True), (2, False)):
        page = struct.pack("<HHHLHHL", 1, 262, 3, 1, photometric, 0, 0)
        encoded = picture[:following] + longs(len(picture)) + picture[following + 4 :] + page
        if is_raw:
            with pytest.raises(UnsupportedImage, match="a camera's raw file"):
                decoding.decode(encoded, (8, 8))
        else:
            assert decoding.decode(encoded, (8, 8)).pixels.any()
    # A page that is broken, that costs too much or is its own successor is no business of the first.
    costly = struct.pack("<H", 40) + struct.pack("<HHLL", 270, 2, 20_000, 8) * 40 + bytes(20_000)
    for offset in (1 << 30, at, len(picture)):
        encoded = picture[:following] + longs(offset) + picture[following + 4 :] + costly
        assert decoding.decode(encoded, (8, 8)).pixels.any()


def test_a_picture_without_width_is_broken():
    encoded = bytearray(generated.write_tiff(GREY, 8, 1))
    at = encoded.index(shorts(256))
    (kind,) = struct.unpack_from("<H", encoded, at + 2)
    encoded[at : at + 12] = struct.pack("<HHLL", 256, kind, 1, 0)
    with pytest.raises(CorruptImage, match="the TIFF's first directory is broken"):
        tiff_kinds.open_tiff(bytes(encoded))


@pytest.mark.parametrize(("offsets", "sizes"), [(273, 279), (324, 325)], ids=["strips", "tiles"])
def test_jpegs_of_strips_and_tiles_are_found(offsets, sizes):
    tiff = object.__new__(tiff_kinds.Tiff)
    tiff.tag_v2 = {259: 7, offsets: (2, 5), sizes: (3, 4)}
    assert list(tiff.jpegs(b"..abcdefg..")) == [b"abc", b"defg"]
