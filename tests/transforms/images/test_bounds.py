"""transforms.images.bounds: metadata costs no more than its file is worth, and good metadata is read as ever."""

import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.helpers import data_generation as data
from tests.helpers import hostile_images as hostile
from transforms.images import bounds, decoding


def load(block: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    stream = io.BytesIO(block)
    directory = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if block[2] == 43 else 8))
    stream.seek(directory.next)
    directory.load(stream)
    return directory


def big_tiff(entries: list[tuple[int, int, int, int]], rest: bytes = b"") -> bytes:
    table = b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    return b"II\x2b\0" + struct.pack("<HHQQ", 8, 0, 16, len(entries)) + table + bytes(8) + rest


def test_a_good_directory_is_read():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    assert load(exif.tobytes()[6:])[0x010F] == "maker"
    encoded = data.encoded(data.photograph(0), "TIFF", exif=exif, compression="tiff_lzw")
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        assert image.size == (96, 128)


@pytest.mark.parametrize("make", [hostile.directory, big_tiff], ids=["classic", "big"])
def test_entries_that_share_more_than_the_file_are_refused(make):
    block = bytes(100_000)
    assert load(make([(tag, 7, 90_000, 8) for tag in range(1)], block))
    with pytest.raises(ValueError, match=r"a directory of tags claims 270000 bytes of \d+, with 0 numbers"):
        load(make([(tag, 7, 90_000, 8) for tag in range(3)], block))


@pytest.mark.parametrize("make", [hostile.directory, big_tiff], ids=["classic", "big"])
def test_too_many_numbers_are_refused(make):
    with pytest.raises(ValueError, match="with 600000 numbers"):
        load(make([(273, 3, 600_000, 64)], bytes(1_300_000)))
    assert load(make([(273, 7, 600_000, 64)], bytes(1_300_000)))  # mere bytes


def test_a_directory_of_more_entries_than_the_file_holds_is_cut_short():
    block = b"II\x2b\0" + struct.pack("<HHQQ", 8, 0, 16, 2**63) + struct.pack("<HHQQ", 256, 4, 1, 8)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        assert dict(load(block)) == {256: 8}


@pytest.mark.parametrize(("kind", "value"), [(3, "HH"), (4, "L")], ids=["short", "long"])
@pytest.mark.parametrize("order", [b"II*\0", b"MM\0*"], ids=["little-endian", "big-endian"])
def test_a_tile_is_measured(order, kind, value):
    endian = "<" if order.startswith(b"I") else ">"

    def block(*entries: tuple[int, int]) -> bytes:
        table = b"".join(
            struct.pack(f"{endian}HHL{value}", tag, kind, 1, side, *[0] * (len(value) - 1)) for tag, side in entries
        )
        return order + struct.pack(f"{endian}LH", 8, len(entries)) + table + bytes(4)

    assert load(block((322, 8192), (323, 8192)))[322] == 8192
    with pytest.raises(ValueError, match="a tile has 8192x8193 pixels"):
        load(block((322, 8192), (322, 16), (323, 8193)))  # the larger of two entries of a tag counts


@pytest.mark.parametrize("kind", [b"mft1", b"mft2", b"mAB "])
def test_a_lookup_table_without_its_points_is_refused(kind):
    def bounded(points):
        return bounds.bounded_profile(data.profile(b"RGB ", b"Lab ", [(b"A2B0", hostile.lookup_table(kind, points))]))

    assert bounded(2) is not None
    assert bounded(20) is None  # 20³ points of three outputs


def test_a_floating_point_table_is_hidden_and_the_others_are_used():
    good = data.swapped_profile()
    assert bounds.bounded_profile(good) == good
    with_table = data.swapped_profile([(b"D2B0", hostile.floating_point_table(2))], 0x04300000)
    assert bounds.bounded_profile(with_table) == with_table.replace(b"D2B0", b"d2b0")
    red = data.encoded(Image.new("RGB", (8, 8), "red"), "PNG", icc_profile=with_table)
    pixel = decoding.decode(red, (1, 1)).pixels[0, 0]
    assert pixel[1] > 250 > 5 > pixel[0]  # red is green in this profile


@pytest.mark.parametrize("profile", [b"", b"acsp", data.swapped_profile()[:140]], ids=["empty", "short", "cut"])
def test_a_profile_that_is_none(profile):
    assert bounds.bounded_profile(profile) in (None, profile)


def test_many_tags_that_share_their_data_are_not_read():
    count = 300_000
    tags = struct.pack(">I", count) + b"A2B0" * 3 * count
    assert bounds.bounded_profile(bytes(128) + tags) is None


@pytest.mark.parametrize(
    ("kind", "needed"), [(b"mft1", 5**3 * 3), (b"mft2", 5**3 * 3 * 2), (b"mAB ", 5**3 * 3 * 2), (b"mBA ", 5**3 * 3 * 2)]
)
def test_a_lookup_table_has_as_many_bytes_as_its_points_need(kind, needed):
    table = hostile.lookup_table(b"mAB " if kind == b"mBA " else kind, 5).replace(b"mAB ", kind)
    enough, too_few = -(-needed // 4) * 4, needed // 4 * 4 - 4 * (needed % 4 == 0)  # tags are padded to four bytes
    for size, is_read in ((enough, True), (too_few, False)):
        content = table.ljust(size, b"\0")[:size]
        profile = data.profile(b"RGB ", b"Lab ", [(b"A2B0", content)])
        assert (bounds.bounded_profile(profile) is not None) is is_read


def test_entries_may_share_some_bytes():
    end = len(hostile.directory([(1, 7, 9, 8)] * 2, bytes(200_000)))
    for shared, is_read in ((bounds._SHARED_BYTES, True), (bounds._SHARED_BYTES + 1, False)):
        block = hostile.directory([(1, 7, 100_000, 8), (2, 7, end + shared - 100_000, 8)], bytes(200_000))
        with contextlib.nullcontext() if is_read else pytest.raises(ValueError, match="a directory of tags claims"):
            load(block)


def test_as_many_numbers_as_are_allowed_are_read():
    for numbers, is_read in ((bounds._MAX_NUMBERS, True), (bounds._MAX_NUMBERS + 1, False)):
        with contextlib.nullcontext() if is_read else pytest.raises(ValueError, match=f"with {numbers} numbers"):
            load(hostile.directory([(273, 3, numbers, 64)], bytes(1_300_000)))


def test_an_entry_whose_data_end_behind_the_file_is_left_to_pillow():
    with pytest.warns(UserWarning, match="Truncated File Read"):
        load(hostile.directory([(270, 7, 2**31, 8), (271, 3, 2**31, 8)], bytes(100)))


def test_how_often_a_gif_is_read():
    stream = bounds.open_gif(data.encoded(data.photograph(0), "GIF")).fp
    stream._left = bounds._MAX_READS  # as when it was opened
    for _ in range(20_000):
        stream.read(1)
    with pytest.raises(ValueError, match="the metadata consists of too many parts"):
        stream.read(1)


@pytest.mark.parametrize("method", [0, 1, 2, 3])
def test_the_replacement_of_a_first_frame_is_not_made(method):
    frames = [data.photograph(seed).convert("P") for seed in range(2)]
    encoded = data.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=method)
    image = bounds.open_gif(encoded)
    assert image.dispose is None and image.disposal_method == 0
    assert (
        np.asarray(image.convert("RGB")).tobytes()
        == np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).tobytes()
    )


@pytest.mark.parametrize("tag", [b"D2B0", b"D2B3", b"B2D0"])
def test_floating_point_tables_of_either_direction_are_hidden(tag):
    profile = data.swapped_profile([(tag, hostile.floating_point_table(2))], 0x04300000)
    assert bounds.bounded_profile(profile) == profile.replace(tag, tag.lower())


def directory(order, is_big, count=2):
    head, entry = ("Q", "HHQQ") if is_big else ("H", "HHLL")
    short = struct.pack(order + entry, 256, 3, 1, 7)
    return b"before" + struct.pack(order + head, count) + short + struct.pack(order + entry, 282, 5, 2, 100)


def read_directory(content, order, is_big):
    file = io.BytesIO(content)
    file.seek(6)
    yield from bounds.directory_entries(file, order, is_big)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("is_big", [False, True])
def test_entries_say_where_their_values_end(order, is_big):
    assert list(read_directory(directory(order, is_big), order, is_big)) == [
        (256, 3, 1, 2, 7, 0),
        (282, 5, 2, 8, 100, 116),
    ]


@pytest.mark.parametrize("kept", [6, 7, 8, 19, 20, 31])
def test_a_directory_that_is_cut_ends_with_an_error(kept):
    with pytest.raises(EOFError):
        list(read_directory(directory("<", False)[:kept], "<", False))
    with pytest.raises(EOFError):
        list(read_directory(directory("<", False, count=3), "<", False))
