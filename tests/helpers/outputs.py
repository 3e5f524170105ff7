"""Outputs of runs that never ran: records, failures and reports, written by hand, in their proper places."""

import datetime
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.flags import options
from pipeline.report import run_report
from pipeline.report.tally import Tally
from transforms import failures as failure_lines
from transforms.elements.records import Embedding, Failure, ImageInfo, ImageRef, Shard
from transforms.encoding import examples, tfrecord
from transforms.encoding.parquet import ParquetFormat
from transforms.models.spec import ModelSpec
from transforms.output import layout, schema

MODEL = ModelSpec(
    name="tiny",
    format="tf2",
    location="/models/tiny",
    signature="",
    tags=(),
    dimension=4,
    image_size=(8, 8),
    digest="d" * 64,
)


def embedding(key: bytes, seed: int, version: str = "1", in_shard: bytes = b"", **changes: object) -> Embedding:
    """Returns the vector of an image whose content is a seed; `changes` are fields of its ImageInfo."""
    ref = ImageRef(key, version, size=100 + seed, crc32c="AAAAAA==", in_shard=in_shard)
    facts = {"sha256": f"{seed:064x}", "format": "jpeg", "height": 8, "width": 8} | changes
    return Embedding(ImageInfo(ref, **facts), np.random.default_rng(seed).normal(size=4).astype(np.float32))


def failure(key: bytes) -> Failure:
    return Failure(key, "decode", "CorruptImage", "broken", False)


def write_run(
    output: Path,
    embeddings: Sequence[Embedding],
    failures: Sequence[Failure] = (),
    *,
    run_id: str = "r",
    skipped: int = 0,
    shards: int = 1,
    model: ModelSpec = MODEL,
    flags: Sequence[str] = (),
) -> Path:
    """Writes all files of a run with these flags, and returns the output."""
    config, _ = options.parse(["--input=/x", f"--output={output}", "--run_id", run_id, *flags])
    for output_format in config.output_formats:
        for i in range(shards):
            _write(
                Path(layout.shard(layout.vectors(str(output), run_id), i, shards, f".{output_format}")),
                encoded(embeddings[i::shards], model, output_format, config.vector_type),
            )
    if failures:
        lines = "".join(f"{failure_lines.to_json(failed, run_id)}\n" for failed in failures)
        _write(Path(layout.shard(layout.failures(str(output), run_id), 0, 1, ".jsonl")), lines.encode())
    schema.write(str(output), model.fields(), config.record_type)
    counts = {
        "listed": len(embeddings) + len(failures) + skipped,
        "embedded": len(embeddings),
        "failed": len(failures),
        "skipped": skipped,
        **dict.fromkeys(config.output_formats, len(embeddings)),
        "lines": len(failures),
        "shards": shards * len(config.output_formats),
    }
    tally = Tally(Counter(counts), Counter((failed.stage, failed.error) for failed in failures))
    finished_at = config.started_at + datetime.timedelta(seconds=3)
    report = run_report.compose(config, model, tally, finished_at, file_digests(output, run_id))
    run_report.write(str(output), report)
    return output


def file_digests(output: Path, run_id: str) -> dict[str, str]:
    """Returns the digests of a run's files as they are now, as its report states them."""
    paths = [*output.glob(f"failures/{run_id}/part-*"), *output.glob(f"embeddings/{run_id}/part-*")]
    parts = [Shard(str(path), 0, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    return run_report.file_digests(run_id, (output / layout.SCHEMA).read_bytes(), parts)


def encoded(
    embeddings: Sequence[Embedding], model: ModelSpec, output_format: str, vector_type: str = "float32"
) -> bytes:
    """Returns the content of a file of embeddings."""
    if output_format == "tfrecord":
        records = examples.encode_embeddings(embeddings, model.fields(), vector_type) if embeddings else []
        return b"".join(map(tfrecord.frame, records))
    content = io.BytesIO()
    part = ParquetFormat(model.fields(), vector_type).open(content)
    if embeddings:
        part.append(embeddings)
    part.finish()
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
