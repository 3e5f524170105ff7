"""transforms.images.jpeg_header: Pillow reads the same from a header that is plain, and reads all others alone."""

import random

import pytest

from tests.helpers import data_generation as data
from tests.helpers import jpeg_files
from transforms.images import jpeg_header
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT


@pytest.mark.parametrize("name", jpeg_files.plain())
def test_plain_headers_say_the_same_to_pillow(name):
    encoded = jpeg_files.plain()[name]
    header = jpeg_header.parse(encoded)
    assert header is not None and header == jpeg_files.header_by_pillow(encoded)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", jpeg_files.strange())
def test_all_others_are_left_to_pillow(name):
    assert jpeg_header.parse(jpeg_files.strange()[name]) is None


def test_what_a_header_says():
    exif = jpeg_files.oriented(">", 6)
    profile = data.swapped_profile()
    encoded = data.encoded(data.photograph(0, 30, 50), "JPEG", exif=exif[4:], icc_profile=profile)
    assert jpeg_header.parse(encoded) == ((50, 30), 6, profile, [(2, 2), (1, 1), (1, 1)], True)


def test_a_header_is_read_however_many_segments_and_profiles_it_has():
    base = jpeg_files.plain()["base"]
    comments = jpeg_files.segment(0xFE, bytes(10)) * 1000
    profile = bytes(range(256)) * 1000
    parts = jpeg_files.profile(profile, range(1, 256), 255)
    header = jpeg_header.parse(base[:2] + comments + parts + base[2:])
    assert header is not None and header.icc_profile == profile


@pytest.mark.filterwarnings("ignore")
def test_no_mutation_of_a_header_is_read_otherwise_than_by_pillow():
    rng, files = random.Random(0), [*jpeg_files.plain().values(), *jpeg_files.strange().values()]
    plain = 0
    for _ in range(6000):
        encoded = jpeg_files.mutated(rng.choice(files), rng)
        header = jpeg_header.parse(encoded)
        if header is not None and header.size[0] * header.size[1] <= MAX_PIXELS_DEFAULT:
            plain += 1
            assert header == jpeg_files.header_by_pillow(encoded), encoded.hex()
    assert plain > 1000


@pytest.mark.parametrize(("more", "is_plain"), [(0, True), (1, False)])
def test_values_of_exif_have_no_more_bytes_than_its_block(more, is_plain):
    """174 bytes: 2 of the orientation, 10 times 16, and 12 or 13. All but the first share their data."""
    values = [(0x9000 + i, jpeg_files._ASCII, 16, bytes(16)) for i in range(11)]
    values[-1] = (0x9000 + 10, jpeg_files._ASCII, 12 + more, bytes(16))
    segment = jpeg_files.exif("<", [(jpeg_files._ORIENTATION, jpeg_files._SHORT, 1, b"\6\0"), *values])
    assert len(segment) - 4 - 6 == 174
    header = jpeg_header.parse(jpeg_files._after_start(jpeg_files.plain()["base"], segment))
    assert (header is not None and header.orientation == 6) is is_plain


@pytest.mark.parametrize(("number", "is_plain"), [(3, True), (4, False), (0x13, False)])
def test_there_are_four_quantization_tables_of_8_bits(number, is_plain):
    table = jpeg_files.segment(0xDB, bytes([number]) + bytes(range(1, 65)))
    assert (jpeg_header.parse(jpeg_files._after_start(jpeg_files.plain()["base"], table)) is not None) is is_plain


@pytest.mark.parametrize(("length", "is_plain"), [(16, True), (17, False)])
def test_values_of_exif_end_within_its_block(length, is_plain):
    entries = [(jpeg_files._ORIENTATION, jpeg_files._SHORT, 1, b"\6\0"), (0x9000, jpeg_files._ASCII, length, bytes(16))]
    encoded = jpeg_files._after_start(jpeg_files.plain()["base"], jpeg_files.exif("<", entries))
    assert (jpeg_header.parse(encoded) is not None) is is_plain
