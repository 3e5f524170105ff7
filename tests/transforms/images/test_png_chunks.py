"""transforms.images.png_chunks: what libpng refuses of a PNG is refused, and what it ignores is ignored."""

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from tests.helpers import data_generation as data
from tests.helpers import generated_images as generated
from tests.helpers.hostile_images import chunk
from transforms.images import decoding, png_chunks
from transforms.images.image_errors import CorruptImage, UnsupportedImage

SIZE = (6, 10)
PHOTOGRAPH = data.photograph(0, *SIZE)
PLAIN = data.encoded(PHOTOGRAPH, "PNG")
HEADER_END = 33
IDAT = PLAIN.index(b"IDAT") - 4


def with_chunks(*chunks: bytes, at: int = HEADER_END) -> bytes:
    return PLAIN[:at] + b"".join(chunks) + PLAIN[at:]


def broken(chunk_: bytes) -> bytes:
    return chunk_[:-1] + bytes([chunk_[-1] ^ 1])


def decodes(encoded: bytes) -> bool:
    return bool((decoding.decode(encoded, SIZE).pixels == PHOTOGRAPH).all())


def test_a_plain_file_is_passed_on_byte_for_byte():
    picture = png_chunks.parse(PLAIN)
    assert picture.plain == PLAIN
    assert picture[:5] == ((10, 6), 8, 2, False, None) and picture.icc_profile is None
    assert b"".join(picture.pixels) == PLAIN[IDAT + 8 : -16]
    assert png_chunks.size(PLAIN) == (10, 6) and png_chunks.size(data.jpeg()) is None


ANCILLARY = {
    "no known one": chunk(b"abCd", b"x"),
    "a short pHYs": chunk(b"pHYs", b"x"),
    "an empty gAMA": chunk(b"gAMA"),
    "an empty tRNS": chunk(b"tRNS"),
    "a long tRNS": chunk(b"tRNS", bytes(8)),
    "a wrong checksum": broken(chunk(b"tEXt", b"Comment\0text")),
    "text without a name": chunk(b"zTXt", b""),
    "compressed text of another method": chunk(b"zTXt", b"Comment\0\1x"),
    "text of 8 MiB": chunk(b"tEXt", b"Comment\0" + bytes(8 << 20)),
    "compressed text of 8 MiB": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8 << 20))),
    "international text of 8 MiB": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(8 << 20))),
    "XMP of 8 MiB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(8 << 20))),
    "EXIF of 8 MiB in text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(8 << 20))),
    "a profile without a name": chunk(b"iCCP", b"\0\0" + zlib.compress(data.swapped_profile())),
    "a profile of another method": chunk(b"iCCP", b"p\0\1" + zlib.compress(data.swapped_profile())),
    "half a profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(data.swapped_profile())[:-9]),
    "a broken profile": chunk(b"iCCP", b"p\0\0noise"),
    "a profile above 4 MiB": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes((4 << 20) + 1))),
    "an animation without frames": chunk(b"acTL", bytes(8)),
    "a palette that is a suggestion": chunk(b"PLTE", bytes(6)),
}


@pytest.mark.parametrize("name", ANCILLARY)
def test_an_ancillary_chunk_is_no_reason_to_lose_the_picture(name):
    assert decodes(with_chunks(ANCILLARY[name]))
    assert decodes(with_chunks(ANCILLARY[name], at=len(PLAIN) - 12))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"tRNS", bytes(6)),
        (b"iCCP", b"p\0\0" + zlib.compress(data.swapped_profile())),
        (b"eXIf", b"II*\0\x08\0\0\0\0\0"),
        (b"tEXt", b"Raw profile type exif\0x"),
    ],
)
def test_what_is_broken_is_as_if_it_were_not_there(kind, content):
    whole, left_out = with_chunks(chunk(kind, content)), with_chunks(broken(chunk(kind, content)))
    assert png_chunks.parse(whole) != png_chunks.parse(PLAIN) == png_chunks.parse(left_out)


def test_nothing_but_what_makes_the_picture_is_passed_on():
    suggested = chunk(b"PLTE", bytes(6))
    assert png_chunks.parse(with_chunks(suggested)).plain == PLAIN
    assert png_chunks.parse(with_chunks(ANCILLARY["a profile above 4 MiB"])).icc_profile is None


def test_texts_of_another_compression_are_left_out():
    text = zlib.compress(b"text")
    for method, is_kept in ((b"\0", True), (b"\1", False)):
        for kind, head in ((b"zTXt", b"Raw profile type exif\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1")):
            end = method + (b"\0\0" if kind == b"iTXt" else b"") + text
            assert (png_chunks.parse(with_chunks(chunk(kind, head + end))).plain != PLAIN) is is_kept


def test_many_chunks_are_no_reason_to_refuse():
    assert png_chunks.parse(with_chunks(chunk(b"prVt") * 100_000)).plain == PLAIN


def test_a_palette_behind_the_pixels_is_none():
    encoded = data.encoded(PHOTOGRAPH.convert("P"), "PNG")
    start, end = encoded.index(b"PLTE") - 4, encoded.index(b"IDAT") - 4
    moved = encoded[:start] + encoded[end:-12] + encoded[start:end] + encoded[-12:]
    assert b"PLTE" in png_chunks.parse(encoded).plain and b"PLTE" not in png_chunks.parse(moved).plain


def header_of(**changed: int) -> bytes:
    """Returns a PNG whose header has other values."""
    values = {"width": 10, "height": 6, "depth": 8, "colour": 2, "compression": 0, "filters": 0, "interlace": 0}
    return PLAIN[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", *(values | changed).values())) + PLAIN[33:]


@pytest.mark.parametrize("name", ["width", "height", "depth", "colour", "compression", "filters", "interlace"])
def test_values_of_the_header(name):
    assert header_of() == PLAIN and png_chunks.parse(header_of(interlace=1)).is_interlaced
    value = {"width": 0, "height": 0, "depth": 5, "colour": 5, "interlace": 2}.get(name, 1)
    with pytest.raises(CorruptImage, match="not defined"):
        png_chunks.parse(header_of(**{name: value}))


def test_a_profile_behind_the_palette_is_none():
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(data.swapped_profile()))
    palette = PALETTE[PALETTE_START:PALETTE_END]
    assert png_chunks.parse(with_palette(profile, palette)).icc_profile == data.swapped_profile()
    assert png_chunks.parse(with_palette(palette, profile)).icc_profile is None
    assert png_chunks.parse(with_chunks(chunk(b"PLTE", bytes(6)), profile)).icc_profile is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "P"])
def test_a_profile_is_for_the_colours_of_its_picture(mode):
    for profile, is_grey in ((data.linear_rgb_profile(), False), (data.linear_grey_profile(), True)):
        encoded = data.encoded(PHOTOGRAPH.convert(mode), "PNG", icc_profile=profile)
        if is_grey == (mode in ("L", "LA")):
            assert png_chunks.parse(encoded).icc_profile == profile
        else:
            plain = data.encoded(PHOTOGRAPH.convert(mode), "PNG")
            assert (decoding.decode(encoded, SIZE).pixels == decoding.decode(plain, SIZE).pixels).all()


def test_the_name_of_a_profile_has_1_to_79_bytes():
    profile = zlib.compress(b"profile")
    found = [
        png_chunks.parse(with_chunks(chunk(b"iCCP", name + b"\0\0" + profile))).icc_profile
        for name in (b"", b"p", b"p" * 79, b"p" * 80)
    ]
    assert found == [None, b"profile", b"profile", None]


def test_a_transparent_index_has_a_colour():
    """A palette of two colours, and the alpha of none, of two and of three."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 1, 3, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(2)))
    kept = []
    for alpha in (0, 2, 3):
        parts = header, chunk(b"PLTE", bytes(6)), chunk(b"tRNS", bytes(alpha)), pixels, chunk(b"IEND")
        kept.append(b"tRNS" in png_chunks.parse(png_chunks.SIGNATURE + b"".join(parts)).plain)
    assert kept == [False, True, False]


def test_with_an_alpha_channel_no_colour_is_transparent():
    for mode, size in (("LA", 2), ("RGBA", 6)):
        encoded = data.encoded(PHOTOGRAPH.convert(mode), "PNG")
        encoded = encoded[:33] + chunk(b"tRNS", bytes(size)) + encoded[33:]
        assert png_chunks.parse(encoded).transparent is None


def test_sizes_of_headers():
    assert png_chunks.size(PLAIN[:24]) == (10, 6)
    assert png_chunks.size(PLAIN[:23]) is None
    assert png_chunks.size(PLAIN[:12] + b"CgBI" + PLAIN[16:]) is None


def test_the_first_of_two_orientations_counts():
    first, second = chunk(b"eXIf", b"II*\0first"), chunk(b"eXIf", b"II*\0second")
    assert png_chunks.parse(with_chunks(first, second)).plain == png_chunks.parse(with_chunks(first)).plain


def test_compressed_bytes_are_whole_and_not_too_many():
    compressed = zlib.compress(bytes(100))
    assert png_chunks._inflated(compressed, 100) == bytes(100)
    assert png_chunks._inflated(compressed, 99) is None and png_chunks._inflated(compressed[:-1], 100) is None


PALETTE = data.encoded(PHOTOGRAPH.convert("P"), "PNG")
PALETTE_START, PALETTE_END = PALETTE.index(b"PLTE") - 4, PALETTE.index(b"IDAT") - 4


def with_palette(*palettes: bytes) -> bytes:
    return PALETTE[:PALETTE_START] + b"".join(palettes) + PALETTE[PALETTE_END:]


CRITICAL = {
    "an empty palette": with_palette(chunk(b"PLTE")),
    "a palette that ends within a colour": with_palette(chunk(b"PLTE", bytes(256 * 3 - 1))),
    "two palettes": with_palette(chunk(b"PLTE", bytes(768)), chunk(b"PLTE", bytes(768))),
    "a wrong checksum of the header": PLAIN[:32] + bytes([PLAIN[32] ^ 1]) + PLAIN[33:],
    "a wrong checksum of the pixels": PLAIN[:-13] + bytes([PLAIN[-13] ^ 1]) + PLAIN[-12:],
    "a wrong checksum of the end": broken(PLAIN),
    "a critical chunk that is not known": with_chunks(chunk(b"ABCD", b"x")),
    "a broken palette": with_chunks(broken(chunk(b"PLTE", bytes(6)))),
    "no header": PLAIN[:8] + PLAIN[33:],
    "a header of 12 bytes": PLAIN[:8] + chunk(b"IHDR", PLAIN[16:28]) + PLAIN[33:],
    "a depth that is not defined": PLAIN[:8] + chunk(b"IHDR", PLAIN[16:24] + b"\5\2\0\0\0") + PLAIN[33:],
    "a colour type that is not defined": PLAIN[:8] + chunk(b"IHDR", PLAIN[16:24] + b"\x08\5\0\0\0") + PLAIN[33:],
    "no pixels": PLAIN[:33] + PLAIN[-12:],
    "cut in the signature": PLAIN[:6],
    "cut behind the signature": PLAIN[:8],
    "cut within the header": PLAIN[:20],
    "cut within the pixels": PLAIN[:-20],
    "cut within text": with_chunks(chunk(b"tEXt", b"Comment\0" + bytes(999)))[:500],
    "noise for a chunk": PLAIN[:33] + bytes(99) + PLAIN[33:],
    "pixels behind another chunk": PLAIN[:IDAT]
    + chunk(b"IDAT", PLAIN[IDAT + 8 : IDAT + 40])
    + chunk(b"tEXt", b"k\0")
    + chunk(b"IDAT", PLAIN[IDAT + 40 : -16])
    + PLAIN[-12:],
    "too many chunks": with_chunks(chunk(b"prVt") * 130_000),
}


@pytest.mark.parametrize("name", CRITICAL)
def test_a_broken_critical_chunk_is_one(name):
    with pytest.raises(CorruptImage):
        decoding.decode(CRITICAL[name], SIZE)


@pytest.mark.parametrize("end", [b"", PLAIN[-12:-3], PLAIN[-12:] + b"what follows", bytes(30)])
def test_behind_the_pixels_nothing_is_missed(end):
    assert decodes(PLAIN[:-12] + end)


def test_pixels_in_several_parts():
    parts = [chunk(b"IDAT", PLAIN[at : min(at + 9, len(PLAIN) - 16)]) for at in range(IDAT + 8, len(PLAIN) - 16, 9)]
    assert decodes(PLAIN[:IDAT] + b"".join(parts) + chunk(b"IDAT") + PLAIN[-12:])


def test_pixels_that_are_cut_in_their_second_part():
    middle = IDAT + 40
    first, second = (chunk(b"IDAT", PLAIN[start:end]) for start, end in ((IDAT + 8, middle), (middle, -16)))
    with pytest.raises(CorruptImage, match="cut within its chunk IDAT"):
        png_chunks.parse(PLAIN[:IDAT] + first + second[:-1])


def test_apples_variant_is_named():
    with pytest.raises(UnsupportedImage, match="Apple's variant"):
        png_chunks.parse(PLAIN[:8] + chunk(b"CgBI", bytes(4)) + PLAIN[8:])


def test_a_profile_of_4_mib_is_read_though_pillow_stops_at_one():
    profile = data.swapped_profile() + bytes((4 << 20) - len(data.swapped_profile()))
    encoded = with_chunks(chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)))
    assert png_chunks.parse(encoded).icc_profile == profile
    # The first counts, and none behind the pixels.
    second = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"second"))
    assert png_chunks.parse(with_chunks(encoded[33 : encoded.index(b"IDAT") - 4], second)).icc_profile == profile
    assert png_chunks.parse(with_chunks(second, at=len(PLAIN) - 12)).icc_profile is None


@pytest.mark.parametrize("kind", ["eXIf", "XMP", "raw profile"])
def test_the_orientation_is_kept(kind):
    exif = Image.Exif()
    exif[0x0112] = 3
    content = exif.tobytes()
    rdf = b'<r:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/>'
    xmp = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + rdf + b"</r:RDF>"
    hexadecimal = b"\nexif\n%8d\n" % len(content) + content.hex().encode() + b"\n"
    turned = {
        "eXIf": chunk(b"eXIf", content[6:]),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        "raw profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexadecimal)),
    }[kind]
    pixels = decoding.decode(with_chunks(turned), SIZE).pixels
    assert (pixels == decoding.decode(PLAIN, SIZE).pixels[::-1, ::-1]).all()


def test_an_animation_is_its_first_frame():
    frames = [data.photograph(seed, *SIZE) for seed in range(3)]
    animated = data.encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in animated and decodes(animated)
    assert b"acTL" not in png_chunks.parse(animated).plain


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "depth", "bands"), [(0, 1, 1), (0, 4, 1), (2, 8, 3), (3, 2, 1), (6, 16, 4)])
def test_rows_are_counted(colour_type, depth, bands, interlaced):
    passes = generated._PASSES if interlaced else [(0, 0, 1, 1)]
    for width, height in ((1, 1), (3, 2), (9, 5), (33, 17)):
        sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
        count = sum(h * (1 + (w * depth * bands + 7) // 8) for w, h in sizes if w and h)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced))
        palette = chunk(b"PLTE", bytes(12)) if colour_type == 3 else b""
        for missing in (0, 1):
            pixels = chunk(b"IDAT", zlib.compress(bytes(count - missing)))
            encoded = b"".join((png_chunks.SIGNATURE, header, palette, pixels, chunk(b"IEND")))
            assert png_chunks.has_all_rows(png_chunks.parse(encoded)) is not bool(missing)


def test_compressed_bytes_take_no_more_memory_than_is_looked_at():
    zeros = zlib.compress(bytes(64 << 20))
    picture = png_chunks.parse(PLAIN)._replace(size=(1 << 14, 1 << 14), pixels=[memoryview(zeros)])
    tracemalloc.start()
    try:
        assert not png_chunks.has_all_rows(picture)
        assert png_chunks._inflated(zeros, 1 << 20) is None
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_transparent_colour_is_read_as_it_is_stored():
    image = io.BytesIO()
    Image.new("RGB", (2, 2), (1, 2, 3)).save(image, "PNG", transparency=(1, 2, 3))
    assert png_chunks.parse(image.getvalue()).transparent == (1, 2, 3)
    grey = with_chunks(chunk(b"tRNS", b"\0\1"))  # too short for RGB
    assert png_chunks.parse(grey).transparent is None
    behind = with_chunks(chunk(b"tRNS", bytes(6)), at=len(PLAIN) - 12)
    assert png_chunks.parse(behind).transparent is None


def test_texts_of_one_kind_with_an_orientation_each_are_kept():
    texts = chunk(b"tEXt", b"Raw profile type exif\0x"), chunk(b"tEXt", b"XML:com.adobe.xmp\0y")
    assert all(text in png_chunks.parse(with_chunks(*texts)).plain for text in texts)


def test_a_file_without_pixels_is_no_picture():
    with pytest.raises(CorruptImage, match="ends before its pixels"):
        png_chunks.parse(PLAIN[:HEADER_END] + PLAIN[-12:])


def test_transparent_indices_of_a_palette_are_no_colour():
    encoded = data.encoded(PHOTOGRAPH.convert("P"), "PNG", transparency=bytes((0, 255, 0)))
    picture = png_chunks.parse(encoded)
    assert b"tRNS" in picture.plain and picture.transparent is None


@pytest.mark.parametrize(("kind", "between"), [(b"tEXt", b""), (b"iTXt", bytes(4))])
def test_a_text_with_an_orientation_has_a_mebibyte_at_most(kind, between):
    head = b"XML:com.adobe.xmp\0" + between
    for size, is_kept in ((1 << 20, True), ((1 << 20) + 1, False)):
        text = chunk(kind, head.ljust(size, b"x"))
        assert (text in png_chunks.parse(with_chunks(text)).plain) is is_kept
