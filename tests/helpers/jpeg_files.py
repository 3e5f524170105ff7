"""JPEGs whose headers are plain, and JPEGs whose headers are not, made here segment by segment."""

import functools
import io
import random
import struct
from collections.abc import Sequence

from PIL import Image

from tests.helpers import data_generation as data
from transforms.images import orientation, reader
from transforms.images.jpeg_header import Header

_ORIENTATION, _X_RESOLUTION, _RESOLUTION_UNIT, _MAKER = 0x0112, 0x011A, 0x0128, 0x010F
_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5
_XMP = b"http://ns.adobe.com/xap/1.0/\0<rdf%s/>"


def header_by_pillow(encoded: bytes) -> Header:
    """Returns what Pillow reads in the header of a JPEG of three components.

    Raises:
      Exception: any, if Pillow does not open it.
    """
    with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        samplings = [(across, down) for _, across, down, _ in image.layer]
        turned, profile = orientation.read(image) or 1, image.info.get("icc_profile")
        return Header(image.size, turned, profile, samplings, reader._is_one_scan(image, encoded))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(order: str, entries: Sequence[tuple[int, int, int, bytes]], count: int | None = None) -> bytes:
    """Returns an APP1 segment with one directory: byte order `<` or `>`; tag, type, number of values and their bytes.

    The values of an entry have at most four bytes, or are 16 bytes behind the directory that several may share.
    """
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    table = struct.pack(order + "H", len(entries) if count is None else count)
    for tag, kind, number, values in entries:
        at = struct.pack(order + "L", 8 + 2 + 12 * len(entries) + 4)
        table += struct.pack(order + "HHL", tag, kind, number) + (values.ljust(4, b"\0") if len(values) <= 4 else at)
    return segment(0xE1, b"Exif\0\0" + head + table + bytes(4) + struct.pack(order + "LLLL", 72, 1, 0, 0))


def oriented(order: str, orientation: int) -> bytes:
    """Returns an APP1 segment with an orientation, among other entries."""
    return exif(
        order,
        [
            (_MAKER, _ASCII, 4, b"abc\0"),
            (_ORIENTATION, _SHORT, 1, struct.pack(order + "H", orientation)),
            (_X_RESOLUTION, _RATIONAL, 1, bytes(8)),
            (_RESOLUTION_UNIT, _SHORT, 1, struct.pack(order + "H", 2)),
        ],
    )


def profile(content: bytes, parts: Sequence[int], count: int) -> bytes:
    """Returns APP2 segments with the parts of a profile of `count` parts, each by its number from 1."""
    length = -(-len(content) // count)
    pieces = {number: content[(number - 1) * length : number * length] for number in range(1, count + 1)}
    return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((part, count)) + pieces.get(part, b"")) for part in parts)


def photoshop(*resources: tuple[int, bytes, bytes]) -> bytes:
    """Returns the content of an APP13 segment: code, name and content of each resource."""
    block = b"Photoshop 3.0\0"
    for code, name, content in resources:
        named = bytes([len(name)]) + name
        block += b"8BIM" + struct.pack(">H", code) + named + bytes(len(named) % 2)
        block += struct.pack(">L", len(content)) + content + bytes(len(content) % 2)
    return block


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


@functools.cache
def plain() -> dict[str, bytes]:
    """Returns JPEGs whose header is plain."""
    small, wide = data.photograph(1, 48, 64), data.photograph(2, 37, 129)
    base = data.encoded(small, "JPEG", subsampling=0)
    frame, scan = base.index(b"\xff\xc0"), base.index(b"\xff\xda")
    after_jfif = base[:2] + base[20:]
    swapped = data.swapped_profile()
    resources = photoshop((0x404, b"", b"iptc"), (0x3ED, b"", bytes(16)), (0x40F, b"name", b"odd"))
    files = {
        "base": base,
        "chroma at half size": data.encoded(wide, "JPEG"),
        "chroma at half width": data.encoded(wide, "JPEG", subsampling=1),
        "progressive": data.encoded(wide, "JPEG", progressive=True),
        "restarts": data.encoded(wide, "JPEG", restart_marker_blocks=2),
        "optimized": data.encoded(wide, "JPEG", optimize=True, quality=30, dpi=(300, 300), comment=b"comment"),
        "one pixel": data.encoded(data.photograph(3, 1, 1), "JPEG"),
        "RGB": data.encoded(small, "JPEG", keep_rgb=True),
        "no JFIF": after_jfif,
        "extended sequential": base[: frame + 1] + b"\xc1" + base[frame + 2 :],
        "one component in the first scan": base[:scan] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + base[scan + 14 :],
        "truncated in the scan": base[: scan + 40],
        "XMP": _after_start(base, segment(0xE1, _XMP % b"")),
        "XMP beside EXIF": _after_start(base, segment(0xE1, _XMP % b' tiff:Orientation="3"') + oriented("<", 6)),
        "EXIF without orientation": _after_start(base, exif(">", [(_MAKER, _ASCII, 4, b"abc\0")])),
        "sRGB": _after_start(base, profile(data.linear_rgb_profile(), [1], 1)),
        "grey profile": _after_start(base, profile(data.linear_grey_profile(), [1], 1)),
        "no profile": _after_start(base, profile(b"no profile at all", [1], 1)),
        "three parts": _after_start(base, profile(swapped, [1, 2, 3], 3)),
        "parts in another order": _after_start(base, profile(swapped, [3, 1, 2], 3)),
        "Photoshop": _after_start(base, segment(0xED, resources)),
        "Photoshop with a tail": _after_start(base, segment(0xED, resources + b"tail")),
        "other applications": _after_start(
            base, segment(0xE5, bytes(99)) + segment(0xE2, b"FPXR\0") + segment(0xE0, b"")
        ),
    }
    for transform in (0, 1, 2):
        files[f"Adobe {transform}"] = _after_start(after_jfif, adobe(transform))
    for order in "<>":
        for turn in range(10):
            files[f"orientation {order}{turn}"] = _after_start(base, oriented(order, turn))
    return files


@functools.cache
def strange() -> dict[str, bytes]:
    """Returns JPEGs whose header is broken, or unusual. Pillow opens some of them."""
    small = data.photograph(1, 48, 64)
    base = data.encoded(small, "JPEG", subsampling=0)
    frame, scan = base.index(b"\xff\xc0"), base.index(b"\xff\xda")
    frame_segment = base[frame : frame + 19]
    swapped = data.swapped_profile()
    turned = (_ORIENTATION, _SHORT, 1, b"\6\0")
    resources = photoshop((0x404, b"", b"iptc"))
    files = {
        "no JPEG": b"GIF89a",
        "start alone": base[:2],
        "before the scan": base[:scan],
        "in the scan's header": base[: scan + 8],
        "grey": data.encoded(small.convert("L"), "JPEG"),
        "CMYK": data.encoded(small.convert("CMYK"), "JPEG"),
        "MPO": data.encoded(small, "MPO", save_all=True, append_images=[small]),
        "broken MPF": _after_start(base, segment(0xE2, b"MPF\0II*\0")),
        "arithmetic": base[: frame + 1] + b"\xc9" + base[frame + 2 :],
        "lossless": base[: frame + 1] + b"\xc3" + base[frame + 2 :],
        "12 bits": base[: frame + 4] + b"\x0c" + base[frame + 5 :],
        "no height": base[: frame + 5] + bytes(2) + base[frame + 7 :],
        "no width": base[: frame + 7] + bytes(2) + base[frame + 9 :],
        "no frame": base[:frame] + base[frame + 19 :],
        "two frames": base[:frame] + frame_segment + base[frame:],
        "a long frame": base[:frame] + segment(0xC0, frame_segment[4:] + b"\0") + base[frame + 19 :],
        "scan of nothing": base[: scan + 4] + b"\0" + base[scan + 5 :],
        "long scan header": base[: scan + 3] + b"\x0d" + base[scan + 4 :],
        "table of 16 bits": _after_start(base, segment(0xDB, b"\x10" + bytes(range(1, 129)))),
        "short table": _after_start(base, segment(0xDB, bytes(64))),
        "lines after the frame": base[:scan] + segment(0xDC, b"\0\x30") + base[scan:],
        "restart marker": _after_start(base, b"\xff\xd0"),
        "fill bytes": _after_start(base, b"\xff\xff"),
        "junk": _after_start(base, b"junk"),
        "length 1": _after_start(base, b"\xff\xfe\0\1"),
        "length beyond the end": _after_start(base, b"\xff\xfe\xff\xff"),
        "short JFIF": _after_start(base, segment(0xE0, b"JFIF\0\1")),
        "short Adobe": _after_start(base, segment(0xEE, b"Adobe\0")),
        "two EXIF blocks": _after_start(base, oriented("<", 6) + oriented("<", 3)),
        "orientation in XMP": _after_start(base, segment(0xE1, _XMP % b' tiff:Orientation="6"')),
        "empty EXIF": _after_start(base, segment(0xE1, b"Exif\0\0")),
        "EXIF twice": _after_start(base, segment(0xE1, b"Exif\0\0" + oriented("<", 6)[4:])),
        "EXIF of no TIFF": _after_start(base, segment(0xE1, b"Exif\0\0II+\0" + bytes(20))),
        "EXIF of many entries": _after_start(base, exif("<", [turned], count=900)),
        "EXIF without its end": _after_start(base, segment(0xE1, exif("<", [turned])[4:-20])),
        "two orientations": _after_start(base, exif("<", [turned, (_ORIENTATION, _SHORT, 1, b"\3\0")])),
        "orientation of two values": _after_start(base, exif("<", [(_ORIENTATION, _SHORT, 2, b"\6\0\3\0")])),
        "long orientation": _after_start(base, exif("<", [(_ORIENTATION, _LONG, 1, b"\6\0\0\0")])),
        "no value": _after_start(base, exif("<", [turned, (_MAKER, _ASCII, 0, b"")])),
        "unknown type": _after_start(base, exif("<", [turned, (_MAKER, 14, 1, b"")])),
        "type 0": _after_start(base, exif("<", [turned, (_MAKER, 0, 1, b"")])),
        "values beyond the end": _after_start(base, exif("<", [turned, (_MAKER, _ASCII, 99, bytes(99))])),
        "shared values": _after_start(
            base, exif("<", [turned, *[(_MAKER + i, _ASCII, 16, bytes(16)) for i in range(64)]])
        ),
        "resolution of text": _after_start(base, exif("<", [turned, (_X_RESOLUTION, _ASCII, 1, b"\0")])),
        "profile behind the frame": base[:scan] + profile(swapped, [1], 1) + base[scan:],
        "missing part": _after_start(base, profile(swapped, [1, 3], 3)),
        "part twice": _after_start(base, profile(swapped, [1, 1, 2], 3)),
        "part 0": _after_start(base, profile(swapped, [0], 1)),
        "another count": _after_start(base, profile(swapped, [1], 2)),
        "part without a number": _after_start(base, segment(0xE2, b"ICC_PROFILE\0")),
        **{f"Photoshop {end}": _after_start(base, segment(0xED, resources[:end])) for end in range(18, len(resources))},
    }
    for sampling in (0x00, 0x10, 0x01, 0x51, 0x15):
        files[f"sampling {sampling:02x}"] = base[: frame + 11] + bytes([sampling]) + base[frame + 12 :]
    return files


def _after_start(jpeg: bytes, segments: bytes) -> bytes:
    return jpeg[:2] + segments + jpeg[2:]


def mutated(jpeg: bytes, rng: random.Random) -> bytes:
    """Returns a file with a few bytes changed, taken out or put in, mostly in its header, or without its end."""
    broken = bytearray(jpeg)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        way, at = rng.random(), rng.randrange(min(len(broken), rng.choice((200, 700, 1 << 30))))
        if way < 0.5:
            broken[at] = rng.choice((0, 1, 0xFF, rng.randrange(256), broken[at] ^ 1 << rng.randrange(8)))
        elif way < 0.65:
            broken[at : at + 2] = struct.pack(">H", rng.choice((0, 1, 2, 17, 0xFFFF, rng.randrange(64))))
        elif way < 0.75:
            del broken[at + 1 : at + rng.choice((2, 3, 13))]
        elif way < 0.85:
            broken[at:at] = bytes(rng.choice((0, 0xFF, rng.randrange(256))) for _ in range(rng.choice((1, 2, 12))))
        elif way < 0.95:
            source = rng.randrange(len(broken))
            broken[at:at] = broken[source : source + rng.randrange(1, 80)]
        else:
            del broken[at + 1 :]
    return bytes(broken)
