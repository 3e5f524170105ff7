"""Valid inputs for the targets, small and made here, from which the fuzzer starts."""

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import socket
import tarfile
from collections.abc import Mapping

import numpy as np
import pyarrow.parquet as pq
from onnx import TensorProto, helper
from PIL import Image

from pipeline.attempts.claim import Claim
from pipeline.report.page import drift
from pipeline.report.run_report import COUNTS, RunReport
from tests.helpers import data_generation as data
from tests.helpers import generated_images, run_facts
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import examples, tfrecord
from transforms.encoding.parquet import ParquetFormat
from transforms.images import decoding
from transforms.models.spec import ModelFields

# How many images of a format are generated besides.
_GENERATED = 20

# The first two bytes of a picture's input: see targets._of_format.
_CONTROLS = (b"\x00\x20", b"\x45\x08", b"\x82\x30")


def pictures(image_format: str) -> list[bytes]:
    """Returns small images in each way of a format to hold pixels, with the control bytes of targets before them."""
    small, frames = data.photograph(1, 48, 64), [data.photograph(seed, 12, 16) for seed in range(3)]
    clear = small.convert("RGBA")
    clear.putalpha(small.convert("L"))
    grey, palette, black = small.convert("L"), small.convert("P"), small.convert("1")
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    described = {"exif": exif, "icc_profile": data.swapped_profile()}
    animated = {"save_all": True, "append_images": frames[1:]}
    ways: dict[str, list[tuple[Image.Image, str, dict[str, object]]]] = {
        "jpeg": [
            (small, "JPEG", described),
            (small, "JPEG", {"progressive": True}),
            (small, "JPEG", {"restart_marker_blocks": 2, "subsampling": 0}),
            (small.convert("CMYK"), "JPEG", {"icc_profile": data.black_ink_profile()}),
            (grey, "JPEG", {}),
            (frames[0], "MPO", animated),
        ],
        "png": [
            (small, "PNG", described),
            (clear, "PNG", {}),
            (palette, "PNG", {"transparency": 3}),
            (deep, "PNG", {}),
            (black, "PNG", {}),
            (frames[0], "PNG", animated),
        ],
        "webp": [
            (small, "WEBP", described),
            (clear, "WEBP", {"lossless": True}),
            (clear, "WEBP", {"quality": 30}),
            (frames[0], "WEBP", animated),
        ],
        "gif": [
            (palette, "GIF", {"comment": b"seed"}),
            (palette, "GIF", {"transparency": 3, "interlace": True}),
            (frames[0], "GIF", animated),
        ],
        "tiff": [
            (small, "TIFF", described),
            (deep, "TIFF", {}),
            (black, "TIFF", {"compression": "group4"}),
            (small.convert("LAB"), "TIFF", {}),
            (palette, "TIFF", {"compression": "packbits"}),
            (clear, "TIFF", {"compression": "tiff_lzw"}),
            (small, "TIFF", {"compression": "tiff_adobe_deflate"}),
            (small, "TIFF", {"compression": "jpeg"}),
            (frames[0], "TIFF", animated),
        ],
        "bmp": [(small, "BMP", {}), (palette, "BMP", {}), (black, "BMP", {}), (clear, "BMP", {})],
        "avif": [(small, "AVIF", described), (clear, "AVIF", {}), (frames[0], "AVIF", animated)],
        "heic": [(small, "HEIF", described), (clear, "HEIF", {})] if "HEIF" in decoding.FORMATS else [],
    }
    files = [data.encoded(image, name, **options) for image, name, options in ways[image_format]]
    made = (generated_images.generate(seed) for seed in range(200))
    files += [image.encoded for image in made if image.what.startswith(f"{image_format},")][:_GENERATED]
    return [_CONTROLS[i % len(_CONTROLS)] + file for i, file in enumerate(files)]


def blocks() -> list[bytes]:
    """Returns EXIF blocks and ICC profiles, each after a byte that says where they belong: see targets.metadata."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769)[0x9286] = b"comment"
    profiles = [
        data.swapped_profile(),
        data.linear_rgb_profile(),
        data.linear_grey_profile(),
        data.black_ink_profile(),
    ]
    return [bytes([carrier]) + block for carrier in range(8) for block in (exif.tobytes(), *profiles)]


def tars() -> list[bytes]:
    """Returns tar files after a byte that says how the target compresses them: see targets.tar."""
    picture = data.encoded(data.photograph(0, 6, 8), "GIF")
    plain = []
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tar_format, pax_headers={"comment": "seed"}) as file:
            for name in ("a.jpg", "long/" * 25 + "b.png", "caf\udce9.gif", "a.jpg", "a.json"):
                info = tarfile.TarInfo(name)
                info.size = len(picture)
                info.mtime = 1.5 if tar_format == tarfile.PAX_FORMAT else 1
                file.addfile(info, io.BytesIO(picture))
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(link)
        plain.append(buffer.getvalue().rstrip(b"\0") + bytes(1024 + 512))
    compressed = [gzip.compress(plain[0], mtime=0), bz2.compress(plain[1]), lzma.compress(plain[2])]
    return [bytes([i % 4]) + file for i, file in enumerate(plain * 2)] + [b"\0" + file for file in compressed]


def tfrecords() -> list[bytes]:
    """Returns TFRecord files after a byte that says whether the target compresses them: see targets.tfrecords."""
    picture = data.encoded(data.photograph(0, 6, 8), "GIF")
    records = [data.image_example(picture, b"key"), data.image_example(picture), data.image_example(b"x", b"key")]
    whole = b"".join(map(tfrecord.frame, records))
    return [b"\0" + whole, b"\1" + whole, b"\2" + whole, b"\0" + gzip.compress(whole, mtime=0), b"\0" + whole[:-9]]


def lists() -> list[bytes]:
    """Returns lists after a byte that says where they lie: see targets.lists."""
    texts = (
        "# holidays\nbeach.jpg\n\ngs://bucket/peak.jpg\n/root/a.jpg\r\nfile:///b.jpg\n",
        'uri,caption\r\ngs://b/a.jpg,"two\r\nlines"\r\n,no uri\r\nb.jpg\r\n',
        "caption;key\ncaption,KEY,x\nsea,s3://b/c.jpg\n",
    )
    encodings = [text.encode(name) for text in texts for name in ("utf-8", "utf-8-sig", "utf-16")]
    return [bytes([place]) + text for place in range(4) for text in [*encodings, b"caf\xe9.jpg\n"]]


def tf_examples() -> list[bytes]:
    """Returns tf.Examples: a record of this project, and images of datasets, with or without a key or content."""
    info = ImageInfo(ImageRef(b"caf\xe9.jpg", "1-1.5", 2**40, "crc=="), "0" * 64, "png", 10, 2**33)
    (record,) = examples.encode_embeddings([Embedding(info, np.ones(3, np.float32))], ModelFields("m", "d", 3))
    images = [data.image_example(b"picture", b"key"), data.image_example(b"picture"), data.image_example(b"", b"")]
    return [record, *images]


def parquet_files() -> list[bytes]:
    """Returns Parquet files of embeddings: as runs write them, and without checksums and compression."""
    info = ImageInfo(ImageRef(b"caf\xe9.jpg", "1-1.5", 2**40, "crc=="), "0" * 64, "png", 10, 2**33)
    files = []
    for vector_type in ("float32", "float16"):
        content, plain = io.BytesIO(), io.BytesIO()
        part = ParquetFormat(ModelFields("m", "d", 3), vector_type).open(content)
        part.append([Embedding(info, np.full(3, i, np.float32)) for i in range(6)])
        part.finish()
        pq.write_table(pq.read_table(content), plain, compression="none", row_group_size=4)
        files += [content.getvalue(), plain.getvalue()]
    return files


def reports() -> list[bytes]:
    report = RunReport(
        run_id="run",
        started_at="2026-01-02T03:04:05.678+00:00",
        finished_at="2026-01-02T03:05:05.678+00:00",
        counts=dict.fromkeys(COUNTS, 0) | {"listed": 3, "embedded": 2, "failed": 1},
        pruned=0,
        failures={"decode": {"CorruptImage": 1}},
        inputs=["gs://bucket/*.jpg"],
        model={"name": "m", "digest": "d", "dimension": 3, "image_size": [224, 224]},
        shards=1,
        seconds={"read": 0.5},
        timings={"read": {"number": 3, "mean_ms": 1.5}},
        elapsed_seconds=60.0,
        images_per_second=0.03,
        verdict="reading",
        phases={"start": 1.0},
        device="CPU",
        attempts={"2026-01-02T03:04:05.678+00:00": 2},
    )
    fields: Mapping[str, object] = dataclasses.asdict(report)
    return [report.to_json().encode(), json.dumps(fields).encode("utf-16"), b"{}"]


def statistics() -> list[bytes]:
    samples = [run_facts.sample(images, 4) for images in (9, 1)]
    stored = [drift.statistics(sample, "d") for sample in samples]
    return [*(each.to_json().encode() for each in stored if each), b"{}"]


def claims() -> list[bytes]:
    embeds = {"inputs": ["a"], "model": "d"}
    claim = Claim("run", "20260102T030405.678Z", embeds, socket.gethostname(), "123 456", 7, "boot pid:[1]")
    return [claim.to_bytes(), dataclasses.replace(claim, host="elsewhere").to_bytes(), b"{}", b'{"run_id": null}']


def keys() -> list[bytes]:
    return [b"gs://bucket/caf\xe9.jpg", rb"a\xe9.jpg", "gs://bucket/é#1".encode(), b"\\x8\xff\\"]


def onnx_models() -> list[bytes]:
    """Returns models whose weights are outside: in the graph, in an attribute, and in a graph within."""
    weights = [TensorProto(external_data=[{"key": "location", "value": name}]) for name in ("w.bin", "../w")]
    constants = [
        helper.make_node("Constant", [], ["c"], value=weights[0]),
        helper.make_node("If", ["c"], ["d"], then_branch=helper.make_graph([], "g", [], [], weights)),
    ]
    models = [helper.make_graph([], "g", [], [], weights[:1]), helper.make_graph(constants, "g", [], [])]
    return [helper.make_model(graph).SerializeToString() for graph in models]


def notes() -> list[bytes]:
    return [b'{"image_size": [224, 224], "handle": "mobilenet"}', b'{"image_size": null}', b"[]", b"cat\ndog\n"]


def preprocessing_files() -> list[bytes]:
    """Returns files of Hugging Face's processors and of OpenCLIP."""
    means = {"image_mean": [0.5, 0.5, 0.5], "image_std": 0.5, "do_normalize": True, "rescale_factor": 0.0039215686}
    files = [
        {"size": 256, "crop_size": 224, "image_processor_type": "CLIPImageProcessor", "resample": 3, **means},
        {"size": {"height": 8, "width": 9}, "do_rescale": False, "do_normalize": False, "resample": 2},
        {"size": {"shortest_edge": 224}, "crop_pct": 0.9, "image_processor_type": "ConvNext", "resample": 1, **means},
        {"preprocess_cfg": {"size": [8, 9], "mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "longest"}},
        {"model_cfg": {"vision_cfg": {"image_size": 224}}},
        {"size": 224, "interpolation": "bilinear", "fill_color": 0},
    ]
    return [json.dumps(file).encode() for file in files]
