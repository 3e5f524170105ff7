"""Seeded test data: photographs, broken images, colour profiles, shards; all made here, nothing fetched."""

import io
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from tfx_bsl.coders import example_coder

from transforms.encoding import tfrecord


def photograph(seed: int, height: int = 96, width: int = 128) -> Image.Image:
    """Returns an RGB picture with structure at several scales, of its own for each seed."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((height, width, 3))
    for cells in (2, 5, 12, 40):
        patch = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        canvas += np.asarray(patch.resize((width, height), Image.Resampling.BICUBIC)) / cells
    canvas = (canvas - canvas.min()) / (canvas.max() - canvas.min()) * 255
    return Image.fromarray(canvas.astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    """Returns an image as a file of a format holds it."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0, height: int = 96, width: int = 128) -> bytes:
    return encoded(photograph(seed, height, width), quality=90)


def quadrants(width: int = 80, height: int = 60) -> Image.Image:
    """Returns red, green, blue and yellow quarters (left to right, top to bottom): a turn or a flip shows at once."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 0)
    return Image.fromarray(pixels)


def oversized_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """Returns a PNG of a few bytes whose header promises more pixels than any machine wants."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def eps() -> bytes:
    """Returns a valid EPS, for which Pillow would start Ghostscript."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def broken_images() -> Mapping[str, tuple[bytes, str]]:
    """Returns file names → (content, the class of the error that decoding it gives)."""
    return {
        "empty.jpg": (b"", "EmptyImage"),
        "text.jpg": (b"this is no image\n", "UnknownFormat"),
        "page.jpg": (b"<html><body>not found</body></html>", "UnknownFormat"),
        "postscript.jpg": (eps(), "UnknownFormat"),
        "archive.png": (b"PK\x03\x04" + bytes(60), "UnknownFormat"),
        "header_only.jpg": (jpeg(1)[:20], "CorruptImage"),
        "truncated.jpg": (jpeg(2)[:-2000], "CorruptImage"),
        "truncated.png": (encoded(photograph(3), "PNG")[:4000], "CorruptImage"),
        "truncated.webp": (encoded(photograph(4), "WEBP")[:400], "CorruptImage"),
        "oversized.png": (oversized_png(), "TooManyPixels"),
    }


def profile(space: bytes, connection: bytes, tags: list[tuple[bytes, bytes]], version: int = 0x02100000) -> bytes:
    """Returns an ICC profile of a colour space, with the tags that say how to get to the connection space.

    See ICC.1:2001-04. White is D50, as it asks.
    """
    name = b"made for tests"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
    tags = [
        (b"desc", described),
        (b"cprt", b"text\0\0\0\0CC0\0"),
        (b"wtpt", _xyz(0.9642, 1.0, 0.8249)),
        *tags,
    ]
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for signature, content in tags:
        content += bytes(-len(content) % 4)
        table += signature + struct.pack(">II", start + len(data), len(content))
        data += content
    size = start + len(data)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">I4sI4s4s4s", size, b"none", version, kind, space, connection) + bytes(12)
    header += b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in (x, y, z))


_LINEAR = b"curv\0\0\0\0" + struct.pack(">I", 0)


def _rgb_profile(
    red: bytes,
    green: bytes,
    blue: bytes,
    curve: bytes,
    more_tags: Sequence[tuple[bytes, bytes]] = (),
    version: int = 0x02100000,
) -> bytes:
    columns = [(b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue)]
    curves = [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return profile(b"RGB ", b"XYZ ", [*columns, *curves, *more_tags], version)


# sRGB's primaries, adapted to D50.
_RED, _GREEN, _BLUE = _xyz(0.4360, 0.2225, 0.0139), _xyz(0.3851, 0.7169, 0.0971), _xyz(0.1431, 0.0606, 0.7139)


def swapped_profile(more_tags: Sequence[tuple[bytes, bytes]] = (), version: int = 0x02100000) -> bytes:
    """Returns an ICC profile of an RGB space whose red and green primaries are swapped.

    The primaries are sRGB's, so that a conversion to sRGB swaps the channels.
    """
    # sRGB's transfer function, sampled: a single gamma would be off by a few levels.
    steps = np.linspace(0, 1, 256)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    curve = b"curv\0\0\0\0" + struct.pack(">I", 256) + (linear * 65535).round().astype(">u2").tobytes()
    return _rgb_profile(_GREEN, _RED, _BLUE, curve, more_tags, version)


def linear_rgb_profile() -> bytes:
    """Returns an ICC profile of sRGB's primaries with samples that are proportional to light."""
    return _rgb_profile(_RED, _GREEN, _BLUE, _LINEAR)


def linear_grey_profile() -> bytes:
    """Returns an ICC profile of grey samples that are proportional to light."""
    return profile(b"GRAY", b"XYZ ", [(b"kTRC", _LINEAR)])


def black_ink_profile() -> bytes:
    """Returns an ICC profile of CMYK in which cyan, magenta and yellow leave no trace on the paper."""
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    straight = bytes(range(256))
    # L*, a* and b* in 8 bits at the 16 corners; black is the last ink, which varies first.
    corners = bytes([255, 128, 128, 0, 128, 128]) * 8
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + straight * 4 + corners + straight * 3
    return profile(b"CMYK", b"Lab ", [(b"A2B0", lut)])


def write_images(directory: Path, count: int, start: int = 0, **size: int) -> list[Path]:
    """Writes `count` different JPEGs `00000.jpg`, …, and returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{seed:05d}.jpg" for seed in range(start, start + count)]
    for seed, path in enumerate(paths, start):
        path.write_bytes(jpeg(seed, **size))
    return paths


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    """Writes a tar file, `mode` as tarfile's."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_tfrecords(path: Path, records: list[bytes]) -> Path:
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    return path


def image_example(encoded_image: bytes, image_key: bytes | None = None) -> bytes:
    """Returns a serialized tf.Example that holds an image, as datasets in TFRecords do."""
    columns = {"image/encoded": encoded_image} | ({"image/key": image_key} if image_key is not None else {})
    arrays = [pa.array([[value]], pa.list_(pa.binary())) for value in columns.values()]
    (record,) = example_coder.RecordBatchToExamplesEncoder().encode(pa.RecordBatch.from_arrays(arrays, list(columns)))
    return record
