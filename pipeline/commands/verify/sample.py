"""A sample of the records: their images are read, decoded and embedded now, and compared with what was recorded."""

import base64
import hashlib
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from pipeline.commands.listed_images import ListedImage
from pipeline.commands.verify.findings import Findings, counted
from pipeline.commands.verify.identities import identity
from pipeline.commands.verify.record_file import ImageFacts, Record
from pipeline.known import recorded_model
from transforms.elements import keys
from transforms.elements.one_line import one_line
from transforms.elements.records import ImageRef
from transforms.images import decoding
from transforms.images.decode_settings import MAX_PIXELS_LIMIT
from transforms.models.spec import ModelSpec
from transforms.storage import read_image
from transforms.storage.context import Storage

SEED = 0
# Other batches and other threads change the last bits of a component, in bfloat16 more than in float32.
COSINE = 0.9999
_BATCH = 32


class Sample:
    """A sample of fixed size of all records, the same each time: it has the smallest hashes of the keys."""

    def __init__(self, size: int, seed: int = SEED):
        self._size = size
        self._seed = b"%d" % seed
        self._largest: list[tuple[int, bytes]] = []
        self.records: dict[bytes, Record] = {}

    def offer(self, record: Record) -> None:
        """Adds a record if it belongs to the sample. Of several records of a key, the last one counts."""
        entry = -int.from_bytes(identity(self._seed, record.key)), record.key
        if record.key in self.records:
            self.records[record.key] = record
        elif len(self.records) < self._size:
            heapq.heappush(self._largest, entry)
            self.records[record.key] = record
        elif self._size and entry > self._largest[0]:
            _, dropped = heapq.heappushpop(self._largest, entry)
            del self.records[dropped]
            self.records[record.key] = record


def check(
    sample: Sample,
    models: Mapping[bytes, Mapping[str, Any]],
    in_shards: Iterable[ListedImage] | None,
    storage: Storage,
    findings: Findings,
) -> None:
    """Checks the records of a sample.

    Args:
      models: model digest → the field `model` of a report.
      in_shards: the images of shards; None if each image is a file of its own.
    """
    with findings.check("") as outcome:
        number = len(sample.records)
        outcome.text = (
            f"sample: {counted(number, 'image')} (seed {SEED}), read, decoded and embedded now, give "
            f"the recorded SHA-256, format, height, width, size, CRC32C and vectors, cosine ≥ {COSINE}"
        )
        compared = 0
        for digest in sorted({record.model_digest for record in sample.records.values()}):
            records = {key: record for key, record in sample.records.items() if record.model_digest == digest}
            spec = _resolved(models.get(digest), digest.decode(), storage, findings)
            if spec is not None:
                pixels = _decoded(records, spec, in_shards, storage, findings)
                compared += _compare(records, spec, pixels, findings)
        if number and not compared:
            findings.problem("the sample proves nothing", f"none of its {number:,} images could be compared")


def _resolved(model: Mapping[str, Any] | None, digest: str, storage: Storage, findings: Findings) -> ModelSpec | None:
    """Returns the model of a run."""
    try:
        if model is None:
            raise ValueError("no report tells which model it is")
        return recorded_model.find(model, digest, storage)
    except Exception as error:  # noqa: BLE001 - a model is a program, and a hub's client has errors of its own
        findings.problem("the model of the sample cannot be used", f"digest {digest}: {one_line(error)}")
        return None


def _decoded(
    records: Mapping[bytes, Record],
    spec: ModelSpec,
    in_shards: Iterable[ListedImage] | None,
    storage: Storage,
    findings: Findings,
) -> Iterator[tuple[bytes, npt.NDArray[np.uint8]]]:
    """Yields (key, pixels) of the images that have not changed since they were recorded."""
    resizing = spec.preprocessing.resizing
    read = _in_files(records, storage, findings) if in_shards is None else _in_shards(records, in_shards)
    for key, version, encoded, crc32c in read:
        record = records[key]
        if hashlib.sha256(encoded).hexdigest().encode() != record.sha256:
            if version != record.version or not version:
                findings.note("an image of the sample has changed since the run", keys.name(key))
            else:
                findings.problem("an image of the sample has another SHA-256", keys.name(key))
            continue
        try:
            decoded = decoding.decode(encoded, spec.image_size, resizing, MAX_PIXELS_LIMIT)
        except decoding.ImageError as error:
            findings.problem("an image of the sample cannot be decoded", f"{keys.name(key)}: {one_line(error)}")
            continue
        facts = ImageFacts(decoded.format.encode(), decoded.height, decoded.width, len(encoded), crc32c)
        for name, value, recorded in zip(ImageFacts._fields, facts, record.image, strict=True):
            if value != recorded:
                others = f"{keys.name(key)}: image/{name} is {_text(recorded)}, and {_text(value)} in the image"
                findings.problem("a record of the sample says something else of its image", others)
        yield key, decoded.pixels


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _in_files(
    records: Mapping[bytes, Record], storage: Storage, findings: Findings
) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    for key in sorted(records):
        try:
            image = read_image.read(storage, ImageRef(key))
        except (OSError, ValueError) as error:
            findings.note("an image of the sample cannot be read now", f"{keys.name(key)}: {one_line(error)}")
        else:
            yield key, image.ref.version.encode(), image.encoded, image.ref.crc32c.encode()


def _in_shards(
    records: Mapping[bytes, Record], images: Iterable[ListedImage]
) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    missing = set(records)
    for image in images:
        if image.key in missing and image.encoded is not None:
            missing.remove(image.key)
            crc32c = base64.b64encode(google_crc32c.value(image.encoded).to_bytes(4, "big"))
            yield image.key, image.version or b"", image.encoded, crc32c


def _compare(
    records: Mapping[bytes, Record],
    spec: ModelSpec,
    pixels: Iterator[tuple[bytes, npt.NDArray[np.uint8]]],
    findings: Findings,
) -> int:
    """Embeds the images, and returns how many were compared with their records."""
    from transforms.models.engines import loading

    compared = 0
    while batch := list(itertools.islice(pixels, _BATCH)):
        vectors = loading.load(spec, _BATCH)(np.stack([of_image for _, of_image in batch]))
        for (key, _), vector in zip(batch, vectors, strict=True):
            compared += 1
            if (cosine := similarity(vector, records[key].vector)) < COSINE:
                findings.problem("an image of the sample has another vector", f"{keys.name(key)}: cosine {cosine:.6f}")
    return compared


def similarity(a: Sequence[float] | npt.NDArray[np.float32], b: Sequence[float] | npt.NDArray[np.float32]) -> float:
    """Returns the cosine of two vectors; 1.0 if both are zero, and 0.0 if one is or their dimensions differ."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        return 0.0
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    if not norms:
        return float(first.any() == second.any())
    return float(first @ second / norms)
