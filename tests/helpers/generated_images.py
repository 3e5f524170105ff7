"""Images over format × depth × layout × photometric × transparency × profile, written here byte by byte and seeded.

Pillow writes a part of what others write. The writers of PNG, TIFF and BMP here take samples of any depth as they are.
"""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.helpers import data_generation as data
from tests.helpers.hostile_images import chunk

HEIGHT, WIDTH = 11, 18


class Generated(NamedTuple):
    """An image.

    Attributes:
      what: what it is, in words.
      encoded: its file.
      right: (height, width, 3) of 0 to 255, where the format says what its samples mean and no profile says otherwise.
    """

    what: str
    encoded: bytes
    right: np.ndarray | None = None


def generate(seed: int) -> Generated:
    rng = random.Random(seed)
    makers: Sequence[Callable[[random.Random], Generated]] = (
        *[png] * 6,
        *[tiff] * 6,
        *[jpeg] * 2,
        *[gif] * 2,
        webp,
        avif,
    )
    return rng.choice(makers)(rng)


def _samples(rng: random.Random, bands: int, depth: int) -> np.ndarray:
    """Returns (HEIGHT, WIDTH, bands) of which each colour fills a part, some of them equal in all rows."""
    drawn = np.random.default_rng(rng.randrange(1 << 30))
    colours = drawn.integers(0, 1 << depth, (6, bands), np.uint64)
    return colours[drawn.integers(0, 6, (HEIGHT, WIDTH))]


def packed(samples: np.ndarray, depth: int, order: str = ">") -> list[bytes]:
    """Returns the bytes of each row of (height, width, bands); samples of less than 8 bits, or 12, begin on top."""
    rows = samples.reshape(len(samples), -1)
    if depth in (8, 16, 32):
        return [row.astype(f"{order}u{depth // 8}").tobytes() for row in rows]
    bits = (rows[..., None] >> np.arange(depth - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    return [row.tobytes() for row in np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1)]


PROFILES: dict[str, bytes | None] = {
    "no profile": None,
    "swapped": data.swapped_profile(),
    "linear": data.linear_rgb_profile(),
}
GREY_PROFILES: dict[str, bytes | None] = {"no profile": None, "linear grey": data.linear_grey_profile()}
CMYK_PROFILES: dict[str, bytes | None] = {"no profile": None, "black ink": data.black_ink_profile()}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


# Colour type → samples of a pixel, and the bits that each may have.
_PNG = {0: (1, (1, 2, 4, 8, 16)), 2: (3, (8, 16)), 3: (1, (1, 2, 4, 8)), 4: (2, (8, 16)), 6: (4, (8, 16))}


def png(rng: random.Random) -> Generated:
    colour_type, (bands, depths) = rng.choice(list(_PNG.items()))
    depth = rng.choice(depths)
    samples = _samples(rng, bands, depth)
    interlaced, clear = rng.random() < 0.3, colour_type in (0, 2, 3) and rng.random() < 0.5
    name, profile = rng.choice(list((GREY_PROFILES if colour_type in (0, 4) else PROFILES).items()))
    before = []
    if profile is not None:
        before.append(chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)))
    if rng.random() < 0.3:
        before.append(chunk(b"tEXt", b"Comment\0" + bytes(rng.randrange(1, 300))))
    if rng.random() < 0.2:
        before.append(chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)))
    if colour_type == 3:
        before.append(chunk(b"PLTE", rng.randbytes(3 << depth)))
    if clear and colour_type == 3:
        before.append(chunk(b"tRNS", rng.randbytes(rng.randint(1, 1 << depth))))
    elif clear:
        colour = samples[0, 0] if rng.random() < 0.7 else samples[0, 0] ^ np.uint64(1)
        before.append(chunk(b"tRNS", colour.astype(">u2").tobytes()))
    parts = [samples[top::down, left::across] for left, top, across, down in _PASSES] if interlaced else [samples]
    rows = b"".join(b"\0" + row for part in parts if part.size for row in packed(part, depth))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour_type, 0, 0, int(interlaced)))
    encoded = b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")
    what = f"png, colour type {colour_type}, {depth} bits, {name}"
    return Generated(what + ", interlaced" * interlaced + ", tRNS" * clear, encoded)


# Photometric interpretation → name, and samples of a pixel besides extra ones.
_PHOTOMETRICS = {0: ("white is zero", 1), 1: ("black is zero", 1), 2: ("RGB", 3), 3: ("palette", 1), 5: ("CMYK", 4)}
_EXTRAS = {None: "", 0: ", unspecified extra", 1: ", associated alpha", 2: ", alpha"}


def tiff(rng: random.Random) -> Generated:
    photometric = rng.choice(list(_PHOTOMETRICS))
    name, bands = _PHOTOMETRICS[photometric]
    depth = rng.choice(
        {0: (1, 2, 4, 8, 12, 16), 1: (1, 2, 4, 8, 12, 16, 32), 3: (1, 2, 4, 8)}.get(photometric, (8, 16))
    )
    extra = rng.choice((None, 0, 1, 2)) if photometric in (1, 2) and depth in (8, 16) else None
    samples = _samples(rng, bands + (extra is not None), depth)
    if extra == 1:  # no colour is more than its alpha
        alpha = samples[..., -1:]
        samples[..., :-1] = samples[..., :-1] * alpha // np.uint64((1 << depth) - 1)
    order, planar = rng.choice("<>"), samples.shape[2] > 1 and rng.random() < 0.4
    compression = rng.choice(("none", "deflate", "packbits"))
    is_tiled = rng.random() < 0.3
    predictor = compression == "deflate" and depth in (8, 16, 32) and not planar and rng.random() < 0.4
    profiles = {0: GREY_PROFILES, 1: GREY_PROFILES, 3: PROFILES, 2: PROFILES, 5: CMYK_PROFILES}[photometric]
    profile_name, profile = rng.choice(list(profiles.items()))
    rows_per_strip = rng.choice((HEIGHT, 4))
    colours = None
    if photometric == 3:
        colours = [rng.randrange(256) * rng.choice((257,)) for _ in range(3 << depth)]
        if rng.random() < 0.4:
            colours = [value // 257 for value in colours]
    encoded = write_tiff(
        samples,
        depth,
        photometric,
        order,
        planar,
        compression,
        is_tiled,
        rows_per_strip,
        predictor,
        extra,
        profile,
        colours,
    )
    what = f"tiff, {name}, {depth} bits{_EXTRAS[extra]}, {'MM' if order == '>' else 'II'}, {compression}"
    what += ", planes" * planar + ", tiles" * is_tiled + ", predictor" * predictor + f", {profile_name}"
    what += ", map of 8 bits" * (colours is not None and max(colours) < 256)
    right = None if profile is not None else tiff_colours(samples, depth, photometric, extra, colours)
    return Generated(what, encoded, right)


def tiff_colours(
    samples: np.ndarray, depth: int, photometric: int, extra: int | None, colours: Sequence[int] | None
) -> np.ndarray:
    """Returns what samples mean, over white (TIFF 6.0, sections 3 to 6, 8 and 18); inks as Pillow mixes them."""
    parts = samples / ((1 << depth) - 1)
    if photometric == 0:
        parts = 1 - parts
    alpha = parts[..., -1:] if extra in (1, 2) else np.ones((*samples.shape[:2], 1))
    light = parts[..., : _PHOTOMETRICS[photometric][1]]
    if colours is not None:
        table = np.reshape(colours, (3, -1)).T / (65535 if max(colours) > 255 else 255)
        light = table[samples[..., 0]]
    if photometric == 5:
        light = (1 - light[..., :3]) * (1 - light[..., 3:])
    over_white = light + 1 - alpha if extra == 1 else light * alpha + 1 - alpha
    return np.broadcast_to(over_white * 255, (*samples.shape[:2], 3))


def write_tiff(
    samples: np.ndarray,
    depth: int,
    photometric: int,
    order: str = "<",
    planar: bool = False,
    compression: str = "none",
    is_tiled: bool = False,
    rows_per_strip: int = HEIGHT,
    predictor: bool = False,
    extra: int | None = None,
    profile: bytes | None = None,
    colours: Sequence[int] | None = None,
    more: Sequence[tuple[int, int, bytes]] = (),
) -> bytes:
    """Returns a TIFF of (height, width, bands) samples; `more` are further (tag, type, bytes of its values)."""
    height, width, bands = samples.shape
    planes = [samples[..., band : band + 1] for band in range(bands)] if planar else [samples]
    parts: list[np.ndarray] = []
    for plane in planes:
        if is_tiled:
            padded = np.pad(plane, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="edge")
            parts += [
                padded[top : top + 16, left : left + 16] for top in range(0, height, 16) for left in range(0, width, 16)
            ]
        else:
            parts += [plane[top : top + rows_per_strip] for top in range(0, height, rows_per_strip)]
    if predictor:
        parts = [np.diff(part, axis=1, prepend=np.uint64(0)) & np.uint64((1 << depth) - 1) for part in parts]
    compress = {"none": bytes, "deflate": zlib.compress, "packbits": _packbits}[compression]
    contents = [
        compress(b"".join(packed(part, depth, order)))
        if compression != "packbits"
        else b"".join(map(_packbits, packed(part, depth, order)))
        for part in parts
    ]

    def shorts(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}H", *values)

    def longs(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}L", *values)

    tags = {
        256: (4, longs(width)),
        257: (4, longs(height)),
        258: (3, shorts(*[depth] * bands)),
        259: (3, shorts({"none": 1, "deflate": 8, "packbits": 32773}[compression])),
        262: (3, shorts(photometric)),
        277: (3, shorts(bands)),
        284: (3, shorts(2 if planar else 1)),
    }
    tags |= {322: (4, longs(16)), 323: (4, longs(16))} if is_tiled else {278: (4, longs(rows_per_strip))}
    offsets, sizes = (324, 325) if is_tiled else (273, 279)
    tags[sizes] = (4, longs(*map(len, contents)))
    tags[offsets] = (4, longs(*[0] * len(contents)))
    if predictor:
        tags[317] = (3, shorts(2))
    if extra is not None:
        tags[338] = (3, shorts(extra))
    if profile is not None:
        tags[34675] = (7, profile)
    if colours is not None:
        tags[320] = (3, shorts(*colours))
    for tag, kind, values in more:
        tags[tag] = (kind, values)
    unit = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}
    at = 8 + 2 + 12 * len(tags) + 4
    places: dict[int, int] = {}
    for tag, (_, values) in sorted(tags.items()):
        if len(values) > 4:
            places[tag], at = at, at + len(values) + len(values) % 2
    starts = [at + sum(map(len, contents[:number])) for number in range(len(contents))]
    tags[offsets] = (4, longs(*starts))
    table = body = b""
    for tag, (kind, values) in sorted(tags.items()):
        value = values.ljust(4, b"\0") if len(values) <= 4 else longs(places[tag])
        table += struct.pack(f"{order}HHL", tag, kind, len(values) // unit[kind]) + value
        body += values + bytes(len(values) % 2) if len(values) > 4 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + longs(8) + shorts(len(tags))
    return head + table + longs(0) + body + b"".join(contents)


def _packbits(row: bytes) -> bytes:
    """Compresses a row by literal runs alone."""
    return b"".join(bytes([len(row[at : at + 128]) - 1]) + row[at : at + 128] for at in range(0, len(row), 128))


def jpeg(rng: random.Random) -> Generated:
    mode = rng.choice(("L", "RGB", "RGB", "CMYK"))
    picture = data.photograph(rng.randrange(1000), 2 * HEIGHT, 2 * WIDTH).convert(mode)
    options: dict[str, object] = {"quality": rng.choice((60, 95)), "progressive": rng.random() < 0.4}
    if mode != "L":
        options["subsampling"] = rng.choice((0, 1, 2))
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = 2
    name, profile = rng.choice(list({"L": GREY_PROFILES, "RGB": PROFILES, "CMYK": CMYK_PROFILES}[mode].items()))
    if profile is not None:
        options["icc_profile"] = profile
    if rng.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = rng.randint(1, 8)
        options["exif"] = exif
    return Generated(f"jpeg, {mode}, {name}", data.encoded(picture, "JPEG", **options))


def gif(rng: random.Random) -> Generated:
    colours, clear = rng.choice((2, 4, 16, 256)), rng.random() < 0.5
    indices = _samples(rng, 1, colours.bit_length() - 1)[..., 0].astype(np.uint8)
    picture = Image.fromarray(indices).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette(rng.randbytes(3 * colours))
    options = {"transparency": int(indices[0, 0])} if clear else {}
    encoded = data.encoded(picture, "GIF", optimize=False, interlace=rng.randrange(2), **options)
    part = rng.random() < 0.4
    if part:
        encoded = _on_larger_canvas(encoded, rng.randrange(4), rng.randrange(4))
    return Generated(f"gif, {colours} colours" + ", transparency" * clear + ", part of the canvas" * part, encoded)


def _on_larger_canvas(gif_: bytes, left: int, top: int) -> bytes:
    at = gif_.rindex(b",\0\0\0\0" + struct.pack("<HH", WIDTH, HEIGHT))
    canvas, place = struct.pack("<HH", WIDTH + 5, HEIGHT + 5), struct.pack("<HH", left, top)
    return gif_[:6] + canvas + gif_[10 : at + 1] + place + gif_[at + 5 :]


def webp(rng: random.Random) -> Generated:
    mode = rng.choice(("RGB", "RGBA"))
    picture = Image.fromarray(_samples(rng, len(mode), 8).astype(np.uint8))
    name, profile = rng.choice(list(PROFILES.items()))
    options: dict[str, object] = {} if profile is None else {"icc_profile": profile}
    return Generated(f"webp, {mode}, {name}", data.encoded(picture, "WEBP", lossless=True, exact=True, **options))


def avif(rng: random.Random) -> Generated:
    mode = rng.choice(("RGB", "RGBA", "L"))
    picture = data.photograph(rng.randrange(1000), 2 * HEIGHT, 2 * WIDTH).convert(mode)
    if mode == "RGBA":
        picture.putalpha(picture.convert("L"))
    # A linear profile makes much of the levels that two converters from YCbCr differ by.
    name = "no profile" if mode == "L" else rng.choice(("no profile", "swapped"))
    profile = PROFILES[name]
    options: dict[str, object] = {} if profile is None else {"icc_profile": profile}
    encoded = data.encoded(picture, "AVIF", quality=95, subsampling="4:4:4", speed=10, **options)
    return Generated(f"avif, {mode}, {name}", encoded)
