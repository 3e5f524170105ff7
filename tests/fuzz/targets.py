"""The targets: one function each, from bytes to nothing. An input that makes it raise an error is a finding.

The only outcomes of what they call are a value and the error that its docstring promises. A target takes less than
`MAX_SECONDS` of computing and `MAX_BYTES` of memory for an input.
"""

import bz2
import contextlib
import csv
import dataclasses
import functools
import gzip
import io
import lzma
import os
import socket
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.attempts import claim as claims
from pipeline.attempts.claim import Claim
from pipeline.flags import options
from pipeline.report.page import drift
from pipeline.report.run_report import RunReport
from pipeline.report.summary import summary
from tests.fuzz import repairs, seeds
from tests.helpers import data_generation as data
from tests.helpers import jpeg_files
from transforms.decoders import journal
from transforms.elements import keys
from transforms.elements.one_line import is_seen
from transforms.elements.records import EncodedImage, Failure, ImageRef
from transforms.encoding import compressed, examples, image_shards, parquet, tfrecord
from transforms.encoding.stored_embeddings import StoredEmbedding
from transforms.images import decoding, fast_jpeg, jpeg_header, png_chunks, reader, tiff_kinds
from transforms.images.resizing import RESIZE_MODES
from transforms.lists import uri_lists
from transforms.models import class_names, portable, preprocessing_files
from transforms.models import notes as model_notes
from transforms.output.parts import Label
from transforms.storage import contested
from transforms.storage.context import DEFAULT_STORAGE

MAX_SECONDS = 1.0
MAX_BYTES = 256 << 20

# Small, so that many inputs are tried in a second.
_MAX_PIXELS = 1 << 16

# Of 255, in the mean of all samples. Two resizes round differently, and noise shows it. It was never above 8.
_MAX_DIFFERENCE = 16


class TooExpensive(Exception):
    """An input that takes too much time or memory."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
      run: reads an input, and raises an error if it is a finding.
      seeds: makes the inputs to start from.
      repair: makes a mutated input one that is worth to be read.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    repair: repairs.Repair | None = None

    def execute(self, content: bytes) -> None:
        """Reads an input.

        Raises:
          TooExpensive: if it takes too much time or memory. If the input is a finding, any error.
        """
        before, start = _begin_peak(), time.process_time()
        self.run(content)
        seconds, taken = time.process_time() - start, _peak() - before
        if seconds > MAX_SECONDS:
            raise TooExpensive(f"{seconds:.1f} s of computing for {len(content)} bytes: expected {MAX_SECONDS} at most")
        if taken > MAX_BYTES:
            raise TooExpensive(f"{taken >> 20} MiB for {len(content)} bytes: expected {MAX_BYTES >> 20} at most")


_STATUS = Path("/proc/self/status")


def _begin_peak() -> int:
    """Begins to measure the peak of memory anew, and returns the bytes in use. Only Linux can."""
    if not _STATUS.exists():
        return 0
    with open("/proc/self/clear_refs", "wb") as file:
        file.write(b"5")
    return _status(b"VmRSS")


def _peak() -> int:
    return _status(b"VmHWM") if _STATUS.exists() else 0


def _status(name: bytes) -> int:
    status = _STATUS.read_bytes()
    at = status.index(name) + len(name) + 1
    return int(status[at : status.index(b"kB", at)]) << 10


def _decode(image_format: str, content: bytes) -> None:
    """Decodes a picture. Its first two bytes are the resize mode and the size."""
    if len(content) < 2:
        return
    mode = RESIZE_MODES[content[0] % 3]
    size, encoded = (1 + content[0] % 64, 1 + content[1] % 64), content[2:]
    libraries = (fast_jpeg.simplejpeg, None) if image_format == "jpeg" else (fast_jpeg.simplejpeg,)
    usual, results = fast_jpeg.simplejpeg, []
    try:
        for library in libraries:
            fast_jpeg.simplejpeg = library
            results.append(_decoded(encoded, size, mode))
    finally:
        fast_jpeg.simplejpeg = usual
    first, last = results[0], results[-1]
    # simplejpeg is not on all platforms. With it and without it the same images fail, and the others look the same. A
    # broken profile may turn a difference of one into one of 255.
    assert (first is None) == (last is None)
    if first is not None and last is not None and b"ICC_PROFILE" not in encoded:
        assert np.abs(first.astype(int) - last).mean() < _MAX_DIFFERENCE


def _decoded(encoded: bytes, size: tuple[int, int], mode: str) -> npt.NDArray[np.uint8] | None:
    try:
        decoded = decoding.decode(encoded, size, mode, _MAX_PIXELS)
    except decoding.ImageError:
        return None
    assert decoded.pixels.shape == (*size, 3)
    assert decoded.pixels.dtype == np.uint8
    assert 0 < decoded.height * decoded.width <= _MAX_PIXELS
    # What Pillow refuses, asked plainly, is no vector. But it refuses PNGs over their metadata, planes of TIFFs, and
    # palettes of BMPs that are too large.
    if not encoded.startswith((png_chunks.SIGNATURE, b"BM")) and not tiff_kinds.is_tiff(encoded):
        with Image.open(io.BytesIO(encoded), formats=reader._OPENED) as image:
            image.load()
    return decoded.pixels


def jpeg_headers(content: bytes) -> None:
    """Reads a JPEG's header. Pillow, which opens all files that are not plain, reads the same in it."""
    header = jpeg_header.parse(content)
    if header is not None and header.size[0] * header.size[1] <= _MAX_PIXELS:
        assert header == jpeg_files.header_by_pillow(content)


@functools.cache
def _carriers() -> tuple[Image.Image, Image.Image]:
    return data.photograph(1, 12, 16), data.photograph(1, 12, 16).convert("CMYK")


def metadata(content: bytes) -> None:
    """Puts an EXIF block or an ICC profile into a good picture: broken ones do not keep it from being decoded."""
    if not content or len(content) > 60_000:
        return
    carrier, block = content[0] % 8, content[1:]
    rgb, cmyk = _carriers()
    image_format = ("JPEG", "PNG", "TIFF", "WEBP")[carrier // 2]
    image = cmyk if content[0] & 0x40 and image_format in ("JPEG", "TIFF") else rgb
    option = {"exif": b"Exif\0\0" + block} if carrier % 2 else {"icc_profile": block}
    try:
        encoded = data.encoded(image, image_format, **option)
    except Exception:  # noqa: BLE001 - Pillow does not write each block that it reads
        return
    # Pillow writes the tags of an EXIF block into the TIFF's own directory, where they may break the picture.
    refusals = (decoding.ImageError,) if image_format == "TIFF" and carrier % 2 else ()
    with contextlib.suppress(*refusals):
        decoding.decode(encoded, (8, 8), "stretch", _MAX_PIXELS)


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="image-embeddings-fuzz-")


def _file(name: str, content: bytes) -> Path:
    path = Path(_directory().name, name)
    path.write_bytes(content)
    return path


def _check_members(members: Sequence[EncodedImage | Failure], shard: bytes) -> None:
    images = [member for member in members if isinstance(member, EncodedImage)]
    failures = [member for member in members if isinstance(member, Failure)]
    assert len(images) + len(failures) == len(members)
    assert not any(failure.retryable for failure in failures)
    assert len({image.ref.key for image in images}) == len(images)
    assert all(image.ref.size == len(image.encoded) for image in images)


def tar(content: bytes) -> None:
    compress: Callable[[bytes], bytes] = (
        bytes,
        lambda plain: gzip.compress(plain, 1, mtime=0),
        lambda plain: bz2.compress(plain, 1),
        lambda plain: lzma.compress(plain, preset=0),
    )[content[0] % 4 if content else 0]
    key = os.fsencode(_file("shard.tar", compress(content[1:])))
    members: list[EncodedImage | Failure] = []
    try:
        for member in image_shards.read(DEFAULT_STORAGE, ImageRef(key), "tar"):
            members.append(member)
    except (tarfile.TarError, compressed.BrokenStream):
        pass
    _check_members(members, key)


def tfrecords(content: bytes) -> None:
    compress: Callable[[bytes], bytes] = (
        bytes,
        lambda plain: gzip.compress(plain, 1, mtime=0),
        lambda plain: gzip.compress(plain, 1)[:-4],
    )[content[0] % 3 if content else 0]
    key = os.fsencode(_file("shard.tfrecord", compress(content[1:])))
    members: list[EncodedImage | Failure] = []
    try:
        for member in image_shards.read(DEFAULT_STORAGE, ImageRef(key), "tfrecord"):
            members.append(member)
    except (tfrecord.BrokenFile, compressed.BrokenStream):
        pass
    _check_members(members, key)


def framing(content: bytes) -> None:
    """Reads TFRecords in the three ways: what is whole is the same, and is at the front of the file."""
    whole = list(tfrecord.read_whole(io.BytesIO(content[1:]), 1 << 12))
    framed = b"".join(map(tfrecord.frame, whole))
    assert content[1:].startswith(framed)
    front: list[bytes] = []
    try:
        for record in tfrecord.read(io.BytesIO(content[1:]), 1 << 12):
            front.append(record)
        assert framed == content[1:]
    except (tfrecord.BrokenFile, tfrecord.BrokenRecord):
        pass
    assert front == whole
    try:
        every = list(tfrecord.records(io.BytesIO(content[1:]), 1 << 12))
    except tfrecord.BrokenFile:
        return
    assert every[: len(whole)] == whole


def tf_examples(content: bytes) -> None:
    """Decodes what should be a tf.Example, alone and after a good one. The decoder of a thread holds state."""
    record, image, *_ = _good_examples()
    with contextlib.suppress(ValueError):
        examples.decode_image(content)
    assert examples.decode_image(image) == (b"key", b"picture")
    for decode in (examples.decode_identities, examples.decode_facts):
        (expected,) = decode([record])
        with contextlib.suppress(ValueError):
            first, _ = decode([record, content])
            assert first == expected
    with contextlib.suppress(ValueError):
        keys_of, vectors, models, _ = examples.decode_embeddings([record, content])
        assert len(keys_of) == len(models) == 2
        assert vectors[0].tolist() == [1, 1, 1]


@functools.cache
def _good_examples() -> list[bytes]:
    return seeds.tf_examples()


def parquet_files(content: bytes) -> None:
    """Reads what should be a Parquet file of embeddings, in each way. What an interrupted run has left can be read."""
    whole = [own for batch in parquet.whole_identities(io.BytesIO(content), "float16") for own in batch]
    for own, stored in zip(whole, parquet.embeddings(io.BytesIO(content), range(len(whole))), strict=True):
        assert isinstance(stored, StoredEmbedding) and stored.embedding.info.ref.key == own.key
    with contextlib.suppress(ValueError):
        for _ in parquet.identities(io.BytesIO(content), "float16"):
            pass
    with contextlib.suppress(ValueError):
        for keys_of, vectors, models, _ in parquet.vectors(io.BytesIO(content)):
            assert len(keys_of) == len(vectors) == len(models)


_LISTS = (
    *("/data/list.txt", "/data/list.csv", "gs://bucket/list.txt", "gs://bucket/dir/list.CSV"),
    *("/data/list.jsonl", "gs://bucket/list.tsv"),
)


def lists(content: bytes) -> None:
    place = content[0] % len(_LISTS) if content else 0
    list_uri = _LISTS[place]
    try:
        for key in uri_lists.keys_in(io.BytesIO(content[1:]), list_uri):
            if isinstance(key, bytes):
                assert key and (list_uri.startswith("/") or b"://" in key)
    except (ValueError, csv.Error):
        pass


@functools.cache
def _config() -> options.EmbedConfig:
    return options.parse(["--output=vectors"])[0]


def report(content: bytes) -> None:
    try:
        written = RunReport.from_json(content)
    except ValueError:
        return
    assert isinstance(written.exceeds(0.01), str | None)
    assert all(map(is_seen, summary(written, _config()).splitlines()))
    again = RunReport.from_json(written.to_json())
    assert again.to_json() == written.to_json()


def statistics(content: bytes) -> None:
    """Reads the statistics of an earlier run, and compares them with those of another run."""
    with contextlib.suppress(ValueError):
        before = drift.Statistics.from_json(content)
        between = drift.between(before, dataclasses.replace(before, images=before.images + 1))
        assert between is None or between.shift >= 0
        assert drift.Statistics.from_json(before.to_json()).to_json() == before.to_json()


def claim(content: bytes) -> None:
    held = Claim.of_bytes(content)
    if held is None:
        return
    assert all(isinstance(text, str) for text in (held.run_id, held.attempt, held.host, held.process, held.machine))
    assert isinstance(held.embeds, dict) and isinstance(held.beats, int)
    # A process elsewhere is waited for.
    if held.host == socket.gethostname() and held.machine in ("", claims._machine()):
        assert isinstance(claims._lives("", contested.Content(content, ""), str), bool)


def key_texts(content: bytes) -> None:
    assert keys.of_uri(keys.uri(content)) == content
    assert keys.of_text(keys.text(content)) == content


def names(content: bytes) -> None:
    """Reads the names of parts, and journals."""
    label = Label.of(keys.uri(content))
    if label is not None:
        assert Label.of(f"{label}{'0' * 32}.tfrecord") == label
    key = journal.read(str(_file("0.key", content)))
    assert key is None or isinstance(key, bytes)


def notes(content: bytes) -> None:
    """Reads what lies beside a model: its note, and the names of its classes."""
    directory = Path(_directory().name, "model")
    (directory / model_notes.FILE).parent.mkdir(parents=True, exist_ok=True)
    (directory / model_notes.FILE).write_bytes(content)
    (directory / "labels.txt").write_bytes(content)
    model_notes.read_text(directory)
    for reads in (model_notes.handle, model_notes.image_size, lambda path: class_names.names(path, True, 2)):
        with contextlib.suppress(ValueError):
            reads(directory)


def preprocessing(content: bytes) -> None:
    """Reads the files beside a model that tell its preprocessing."""
    directory = Path(_directory().name, "preprocessing")
    directory.mkdir(exist_ok=True)
    for name in preprocessing_files.NAMES:
        (directory / name).write_bytes(content)
        preprocessing_files.text(directory)
        with contextlib.suppress(ValueError):
            size = preprocessing_files.choices(directory).image_size
            assert size is None or min(size) > 0
        (directory / name).unlink()


def onnx_files(content: bytes) -> None:
    """Reads which files an ONNX model names."""
    file = _file("m.onnx", content)
    with contextlib.suppress(ValueError):
        for name in portable.companions(file):
            assert (file.parent / name).is_relative_to(file.parent) and ".." not in name.split("/")


def all_targets() -> dict[str, Target]:
    """Returns the targets by name."""
    warnings.simplefilter("ignore")  # Pillow warns of much that it decodes
    formats = dict.fromkeys(decoding.FORMATS.values())
    return {
        **{
            name: Target(
                functools.partial(_decode, name),
                functools.partial(seeds.pictures, name),
                repairs.png if name == "png" else None,
            )
            for name in formats
        },
        "jpeg_headers": Target(jpeg_headers, lambda: list(jpeg_files.plain().values())),
        "metadata": Target(metadata, seeds.blocks),
        "tar": Target(tar, seeds.tars, repairs.tar),
        "tfrecords": Target(tfrecords, seeds.tfrecords, repairs.tfrecords),
        "framing": Target(framing, seeds.tfrecords, repairs.tfrecords),
        "tf_examples": Target(tf_examples, seeds.tf_examples),
        "parquet": Target(parquet_files, seeds.parquet_files),
        "lists": Target(lists, seeds.lists),
        "report": Target(report, seeds.reports, repairs.json_values),
        "statistics": Target(statistics, seeds.statistics, repairs.json_values),
        "claim": Target(claim, seeds.claims, repairs.json_values),
        "keys": Target(key_texts, seeds.keys),
        "names": Target(names, lambda: [b"/a/20260102T030405.678Z-embedded-0a.tfrecord", b"\2\0ab", *seeds.keys()]),
        "notes": Target(notes, seeds.notes, repairs.json_values),
        "preprocessing": Target(preprocessing, seeds.preprocessing_files, repairs.json_values),
        "onnx": Target(onnx_files, seeds.onnx_models),
    }
