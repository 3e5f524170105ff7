"""Hostile images, made here: files of a few kilobytes that want gigabytes, and files that are broken at random."""

import contextlib
import io
import random
import struct
import zlib

import numpy as np
import simplejpeg
from PIL import Image, ImageCms

from tests.helpers import data_generation as data
from transforms.images import decoding


def seeds() -> dict[str, bytes]:
    """Returns a good image of each format, and of each way of a format to hold pixels."""
    small, frames = data.photograph(1, 120, 160), [data.photograph(seed, 120, 160) for seed in range(3)]
    photograph = data.photograph(2, 480, 640)  # large enough for a draft
    clear = small.convert("RGBA")
    clear.putalpha(small.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    animated = {"save_all": True, "append_images": frames[1:]}
    images = {
        "jpeg": data.encoded(photograph, "JPEG", exif=exif, icc_profile=data.swapped_profile()),
        "jpeg_progressive": data.encoded(photograph, "JPEG", progressive=True),
        "jpeg_restarts": data.encoded(photograph, "JPEG", restart_marker_blocks=4),
        "jpeg_cmyk": data.encoded(photograph.convert("CMYK"), "JPEG"),
        "jpeg_grey": data.encoded(photograph.convert("L"), "JPEG"),
        "mpo": data.encoded(photograph, "MPO", save_all=True, append_images=[small]),
        "png": data.encoded(small, "PNG"),
        "png_rgba": data.encoded(clear, "PNG"),
        "png_palette": data.encoded(small.convert("P"), "PNG"),
        "png_animated": data.encoded(frames[0], "PNG", **animated),
        "webp_lossy": data.encoded(small, "WEBP"),
        "webp_lossless": data.encoded(clear, "WEBP", lossless=True),
        "webp_animated": data.encoded(frames[0], "WEBP", **animated),
        "gif": data.encoded(small.convert("P"), "GIF"),
        "gif_animated": data.encoded(frames[0], "GIF", **animated),
        "bmp": data.encoded(small, "BMP"),
        "bmp_palette": data.encoded(small.convert("P"), "BMP"),
        "avif": data.encoded(small, "AVIF"),
        "tiff": data.encoded(small, "TIFF", exif=exif),
        "tiff_pages": data.encoded(frames[0], "TIFF", compression="tiff_lzw", **animated),
        "tiff_group4": data.encoded(small.convert("1"), "TIFF", compression="group4"),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        images[f"tiff_{compression.removeprefix('tiff_')}"] = data.encoded(small, "TIFF", compression=compression)
    if "HEIF" in decoding.FORMATS:
        images["heic"] = data.encoded(small, "HEIF")
    return images


def broken(encoded: bytes, rng: random.Random) -> bytes:
    """Returns a file that was cut, or in which a bit, some bytes or a stretch were changed."""
    way, mutated = rng.choice(("cut", "bit", "bytes", "header", "gone", "zeros")), bytearray(encoded)
    at = rng.randrange(len(mutated))
    if way == "cut":
        del mutated[max(1, at) :]
    elif way == "bit":
        mutated[at] ^= 1 << rng.randrange(8)
    elif way == "bytes":
        for _ in range(rng.randrange(1, 20)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
    elif way == "header":
        mutated[rng.randrange(min(400, len(mutated)))] = rng.randrange(256)
    else:
        end = min(len(mutated), at + rng.randrange(1, 200))
        mutated[at:end] = b"" if way == "gone" else bytes(end - at)
    return bytes(mutated)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes, size: tuple[int, int] = (8, 8), pixels: bytes | None = None) -> bytes:
    """Returns a grey PNG with the chunks between header and pixels."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    compressed = zlib.compress(bytes((size[0] + 1) * size[1])) if pixels is None else pixels
    return b"".join((b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IDAT", compressed), chunk(b"IEND")))


def directory(entries: list[tuple[int, int, int, int]], rest: bytes = b"", following: int = 0) -> bytes:
    """Returns a little-endian TIFF of one directory: (tag, type, count, value or offset), and bytes after it."""
    table = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + table + struct.pack("<L", following) + rest


def tiff(extra: list[tuple[int, int, int, int]], rest: bytes = b"", following: int = 0, **tags: int) -> bytes:
    """Returns a grey TIFF of 8×8 pixels in one strip, at the end of the file, with further or other entries."""
    plain = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 278: 8, 279: 64} | {int(k[1:]): v for k, v in tags.items()}
    entries = [(tag, 4, 1, value) for tag, value in plain.items() if tag not in {entry[0] for entry in extra}] + extra
    if 273 not in {entry[0] for entry in entries}:
        entries.append((273, 4, 1, 8 + 2 + 12 * (len(entries) + 1) + 4 + len(rest)))
    return directory(sorted(entries), rest + bytes(64), following)


def exif_bomb(entries: int, size: int) -> bytes:
    """Returns an EXIF block in which each entry claims all of its bytes."""
    block = directory([(tag, 7, size, 0) for tag in range(entries)])
    return b"Exif\0\0" + block.ljust(size, b"\0")


def segments(kind: int, content: bytes, head: bytes = b"") -> bytes:
    """Returns content in as many JPEG segments as it needs, each with a head."""
    parts = [content[at : at + 65_000] for at in range(0, len(content), 65_000)]
    return b"".join(struct.pack(">BBH", 0xFF, kind, 2 + len(head + part)) + head + part for part in parts)


def gif(before: bytes = b"", size: tuple[int, int] = (8, 8), frame: tuple[int, int] = (8, 8)) -> bytes:
    """Returns a grey GIF with blocks before its only frame."""
    whole = data.encoded(Image.new("L", frame), "GIF")
    at = whole.index(b",\0\0\0\0" + struct.pack("<HH", *frame))
    return whole[:6] + struct.pack("<HH", *size) + whole[10:at] + before + whole[at:]


def disposed_gif(size: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """Returns a GIF whose only frame is to be replaced by its background."""
    return gif(b"!\xf9\x04\x08\0\0\0\0", size, frame)


def profile_with(size: int) -> bytes:
    """Returns an ICC profile that is good but for its size."""
    good = data.swapped_profile()
    return struct.pack(">I", size) + good[4:] + bytes(size - len(good))


def lookup_table(kind: bytes, points: int, outputs: int = 3) -> bytes:
    """Returns the tag of a lookup table of three inputs that has hardly any of its points."""
    if kind == b"mAB ":
        grid = bytes([points] * 3).ljust(16, b"\0") + b"\2\0\0\0"
        curves = (b"curv" + bytes(8)) * 3
        return (
            kind + bytes(4) + bytes([3, outputs, 0, 0]) + struct.pack(">5I", 32, 0, 0, 68, 88) + curves + grid + curves
        )
    head = (
        kind + bytes(4) + bytes([3, outputs, points, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    )
    entries = struct.pack(">4H", 2, 2, 0, 65535) if kind == b"mft2" else bytes(range(256))
    return head + entries + bytes(1000)


def floating_point_table(steps: int) -> bytes:
    """Returns the tag of a table of so many steps, which share their data: three curves each."""
    curve = (
        b"curf" + bytes(4) + struct.pack(">HHf", 2, 0, 0) + (b"parf" + bytes(8) + struct.pack(">4f", 1, 1, 0, 0)) * 2
    )
    step = b"cvst" + bytes(4) + struct.pack(">HH", 3, 3) + struct.pack(">II", 36, len(curve)) * 3 + curve
    at = 16 + 8 * steps
    return b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, steps) + struct.pack(">II", at, len(step)) * steps + step


def profiles() -> dict[str, bytes]:
    """Returns profiles for RGB that LittleCMS needs hundreds of megabytes to read."""
    profiles = {
        f"points_{kind.decode().strip()}": data.profile(
            b"RGB ", b"Lab ", [(b"A2B0", lookup_table(kind, 250, 15))], version
        )
        for kind, version in ((b"mft1", 2 << 24), (b"mft2", 2 << 24), (b"mAB ", 4 << 24))
    }
    profiles["steps"] = data.swapped_profile([(b"D2B0", floating_point_table(20_000))], 0x04300000)
    return profiles


def bombs() -> dict[str, tuple[bytes, str]]:
    """Returns name → (a file, `decoded` or the class of the error)."""
    zeros = zlib.compress(bytes(64 << 20))
    jpeg, small = data.jpeg(), data.photograph(0)
    frame_control = struct.pack(">IIIIIHHBB", 0, 8_000, 8_000, 0, 0, 1, 1, 1, 0)
    animation = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame_control)
    many_frames = {"save_all": True, "append_images": [Image.new("L", (8, 8), shade % 256) for shade in range(500)]}
    orientation = Image.Exif()
    orientation[0x0112] = 99
    text = b"Exif\0\0" + directory([(0x0112, 2, 4, int.from_bytes(b"top\0", "little"))])
    texts = [chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) for _ in range(99)]
    shared = [(tag, 7, 1 << 20, 0) for tag in range(1000, 61_000)]
    mpf = segments(0xE2, exif_bomb(5_000, 60_000)[6:], b"MPF\0")
    cyclic = directory([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)], following=8)
    noise = np.random.default_rng(0).integers(0, 256, 70_000, dtype=np.uint8).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    grid = bytearray(data.black_ink_profile())
    grid[grid.index(b"mft1") + 10] = 255  # a lookup table of 255⁴ points
    exif_segments = segments(0xE1, exif_bomb(5_000, 60_000)[6:], b"Exif\0\0")
    long_exif = segments(0xE1, exif_bomb(50_000, 2 << 20)[6:], b"Exif\0\0")
    webp = bytearray(data.encoded(small, "WEBP", lossless=True, exif=b"Exif\0\0" + bytes(4)))
    webp[24:27] = webp[27:30] = b"\xff\x3f\0"  # the canvas: 16384×16384
    avif = bytearray(data.encoded(small, "AVIF"))
    at = avif.index(b"ispe") + 8
    avif[at : at + 8] = struct.pack(">II", 65_000, 1_000)
    bmp = data.encoded(small.convert("P"), "BMP")
    run_length = bytearray(bmp[:1078] + b"\0\2\xff\xff" * 50_000)
    run_length[30:34] = struct.pack("<I", 1)
    upside_down = bytearray(data.encoded(small, "BMP"))
    upside_down[22:26] = struct.pack("<i", -small.height)
    endless = bytearray(data.encoded(small, "BMP"))
    endless[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    with_profiles = {f"icc_{name}": data.encoded(small, "TIFF", icc_profile=icc) for name, icc in profiles().items()}
    tile = {"_322": 40_000, "_323": 40_000, "_259": 8}
    return {
        "png_header": (png(size=(2**31 - 1, 2**31 - 1), pixels=b""), "TooManyPixels"),
        "png_animated_header": (png(animation, size=(60_000, 60_000), pixels=b""), "TooManyPixels"),
        "png_animated_canvas": (png(animation, size=(8_000, 8_000)), "decoded"),
        "png_text": (png(chunk(b"zTXt", b"k\0\0" + zeros)), "decoded"),
        "png_international_text": (png(chunk(b"iTXt", b"k\0\1\0\0\0" + zeros)), "decoded"),
        "png_profile": (png(chunk(b"iCCP", b"k\0\0" + zeros)), "decoded"),
        "png_many_texts": (png(*texts), "decoded"),
        "png_many_chunks": (png(*[chunk(b"prVt")] * 600_000), "CorruptImage"),
        "png_pixels_beyond_the_header": (png(pixels=zeros), "decoded"),
        "png_exif": (png(chunk(b"eXIf", exif_bomb(60_000, 2 << 20)[6:])), "decoded"),
        "png_cyclic_exif": (png(chunk(b"eXIf", cyclic)), "decoded"),
        "jpeg_exif": (jpeg[:2] + exif_segments + jpeg[2:], "decoded"),
        "jpeg_long_exif": (jpeg[:2] + long_exif + jpeg[20:], "decoded"),
        "jpeg_cyclic_exif": (jpeg[:2] + segments(0xE1, cyclic, b"Exif\0\0") + jpeg[2:], "decoded"),
        "jpeg_noise_for_exif": (jpeg[:2] + segments(0xE1, noise[:64_000], b"Exif\0\0") + jpeg[2:], "decoded"),
        "jpeg_orientation_99": (data.encoded(small, "JPEG", exif=orientation), "decoded"),
        "jpeg_orientation_text": (data.encoded(small, "JPEG", exif=text), "decoded"),
        "jpeg_index_of_pictures": (jpeg[:2] + mpf + jpeg[2:], "decoded"),
        "jpeg_65500": (data.encoded(Image.new("L", (65_500, 1)), "JPEG"), "decoded"),
        "icc_noise": (data.encoded(small, "PNG", icc_profile=noise), "decoded"),
        "icc_large": (data.encoded(small, "WEBP", icc_profile=profile_with(8 << 20)), "decoded"),
        "icc_other_space": (data.encoded(small, "PNG", icc_profile=lab), "decoded"),
        "icc_lookup_table": (data.encoded(small.convert("CMYK"), "TIFF", icc_profile=bytes(grid)), "decoded"),
        **{name: (image, "decoded") for name, image in with_profiles.items()},
        "gif_canvas": (gif(size=(65_535, 65_535)), "TooManyPixels"),
        "gif_disposed": (disposed_gif((8, 8), (5_000, 5_000)), "decoded"),
        "gif_comments": (gif(b"!\xfe" + (b"\xff" + bytes(255)) * 80_000 + b"\0"), "CorruptImage"),
        "gif_frames": (data.encoded(Image.new("L", (8, 8)), "GIF", **many_frames), "decoded"),
        "webp_frames": (data.encoded(Image.new("L", (8, 8)), "WEBP", **many_frames), "decoded"),
        "webp_canvas": (bytes(webp), "CorruptImage"),
        "avif_header": (bytes(avif), "UnsupportedImage"),
        "bmp_runs": (bytes(run_length), "decoded"),
        "bmp_upside_down": (bytes(upside_down), "decoded"),
        "bmp_header": (bytes(endless), "TooManyPixels"),
        "tiff_plain": (tiff([]), "decoded"),
        "tiff_header": (tiff([], _256=2**31, _257=2**31), "TooManyPixels"),
        "tiff_loop": (tiff([], following=8), "decoded"),
        "tiff_directories": (data.encoded(Image.new("L", (8, 8)), "TIFF", **many_frames), "decoded"),
        "tiff_shared_data": (tiff(shared, bytes(1 << 20)), "CorruptImage"),
        "tiff_strips": (tiff([(273, 4, 1 << 20, 150), (278, 4, 1, 1)], bytes(4 << 20)), "CorruptImage"),
        "tiff_strips_in_one_row": (tiff([], _257=10_000_000, _278=2**32 - 1), "CorruptImage"),
        "tiff_tile": (tiff([(324, 4, 1, 150), (325, 4, 1, len(zeros))], zeros, **tile), "CorruptImage"),
        "tiff_cyclic_exif": (tiff([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)]), "decoded"),
        "icon": (data.encoded(small, "ICO"), "UnknownFormat"),
    }  # fmt: skip


def large_images(size: int) -> dict[str, bytes]:
    """Returns square images that need much memory each, and compress well."""
    row = (np.arange(size) // 16 % 256).astype(np.uint8)
    band = Image.fromarray(np.broadcast_to(row, (size, size)).copy())
    return {
        "rgba.png": data.encoded(Image.merge("RGBA", [band] * 4), "PNG", compress_level=1),
        "cmyk.jpg": data.encoded(Image.merge("CMYK", [band] * 4), "JPEG", quality=50, progressive=True),
        "progressive.jpg": data.encoded(Image.merge("RGB", [band] * 3), "JPEG", quality=50, progressive=True),
        "lossless.webp": data.encoded(Image.merge("RGB", [band] * 3), "WEBP", lossless=True, method=0, quality=0),
    }


def flipped_pngs(count: int) -> list[bytes]:
    """Returns PNGs, in each of which one byte of the compressed pixels is flipped, and Pillow refuses it."""
    images: list[bytes] = []
    for seed in range(10 * count):
        image = bytearray(data.encoded(data.photograph(seed), "PNG"))
        image[random.Random(seed).randrange(image.index(b"IDAT") + 10, len(image) - 16)] ^= 0xFF
        if is_refused_by_pillow(bytes(image)):
            images.append(bytes(image))
        if len(images) == count:
            break
    return images


def lines() -> dict[str, bytes]:
    """Returns images of one pixel, and lines of it."""
    sizes = {"dot": (1, 1), "wide": (100_000, 1), "high": (1, 100_000), "very_high": (1, 10_000_000)}
    return {name: data.encoded(Image.new("RGB", size, "red"), "PNG") for name, size in sizes.items()}


def is_damaged(encoded: bytes) -> bool:
    """Returns whether pixels are wrong although Pillow decodes them.

    libjpeg warns of those of a JPEG, alone or in a TIFF, libpng refuses a critical chunk, or a TIFF lacks strips.
    """
    if encoded.startswith(b"\x89PNG"):
        return any(not kind[:1].islower() for kind in broken_chunks(encoded))
    if encoded.startswith(b"II*\0"):
        with Image.open(io.BytesIO(encoded)) as image:
            tags = dict(image.tag_v2)  # type: ignore[attr-defined]
        rows = sum(min(tags.get(278, tags[257]), tags[257]) for at in tags.get(273, ()) if at >= 8)
        if tags.get(259, 1) == 1 and rows < tags[257]:
            return True
        strips = [encoded[at : at + size] for at, size in zip(tags.get(273, ()), tags.get(279, ()), strict=False)]
        return any(is_damaged(tags.get(347, b"")[:-2] + strip[2:]) for strip in strips)
    colours = ""
    try:
        with contextlib.suppress(KeyError):  # it has no name for 4:4:1
            colours = simplejpeg.decode_jpeg_header(encoded)[2]
        simplejpeg.decode_jpeg(
            encoded, {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB"), strict=True
        )
    except ValueError:
        return encoded.startswith(b"\xff\xd8")
    return False


def has_broken_metadata(encoded: bytes) -> bool:
    """Returns whether all that is broken of a PNG is in ancillary chunks."""
    kinds = broken_chunks(encoded) if encoded.startswith(b"\x89PNG") else []
    return bool(kinds) and all(kind[:1].islower() for kind in kinds)


def broken_chunks(png_: bytes) -> list[bytes]:
    """Returns the types of the chunks of a PNG whose checksum is wrong, that are not known, or that are cut."""
    known, at, kinds = (b"IHDR", b"PLTE", b"IDAT", b"IEND"), 8, []
    while at + 8 <= len(png_):
        size, kind = int.from_bytes(png_[at : at + 4]), png_[at + 4 : at + 8]
        end = at + 8 + size
        checksum = png_[end : end + 4]
        is_known = kind in known or kind[:1].islower()
        if not is_known or len(checksum) < 4 or zlib.crc32(png_[at + 4 : end]) != int.from_bytes(checksum):
            kinds.append(kind)
        at = end + 4
    return kinds


def is_refused_by_pillow(encoded: bytes) -> bool:
    """Returns whether Pillow, asked plainly, raises an error."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
    except Exception:  # noqa: BLE001 - whatever a plugin raises
        return True
    return False
