"""What earlier runs have written, for tests of those that read it: files in an output, and rows in a table."""

import dataclasses
import datetime
import hashlib

import apache_beam as beam
import numpy as np
from google.cloud import bigquery

from pipeline.known.ledger import ReadLedger
from pipeline.warehouse import tables
from tests.helpers.collecting import collect
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.models.spec import ModelFields
from transforms.write_bigquery import RunColumns, embedding_row
from transforms.write_tfrecord import WriteTFRecords

DIMENSION = 7
DIGEST, OTHER = "d" * 64, "e" * 64
MODEL = ModelFields("a model", DIGEST, DIMENSION)
OTHER_MODEL = ModelFields("another model", OTHER, DIMENSION)
ODD_KEY = b"/photos/caf\xe9.jpg"  # not UTF-8


def embedding(key, version="1-1.0", seed=0):
    """Returns the embedding of bytes that no other key and seed have."""
    content = key + b"%d" % seed
    vector = np.random.default_rng(list(content)).standard_normal(DIMENSION, np.float32)
    sha256 = hashlib.sha256(content).hexdigest()
    return Embedding(ImageInfo(ImageRef(key, version, len(content), "AAAAAA=="), sha256, "png", 30, 40 + seed), vector)


FIRST = [embedding(b"/%d.jpg" % i) for i in range(30)] + [embedding(ODD_KEY)]
SECOND = [embedding(b"/%d.jpg" % i, "2-2.0", seed=1) for i in range(28, 32)]
# The last is of the bytes of one of the first.
OTHERS = [*(embedding(b"/%d.jpg" % i, seed=2) for i in range(3)), Embedding(FIRST[3].info, -FIRST[3].vector)]


BEGAN_AT = datetime.datetime(2026, 3, 29, 1, 30, 0, 123456, datetime.UTC)
RUN = RunColumns("first", BEGAN_AT, MODEL)
# A backslash of its own, as an escape is spelled.
SPELLED_KEY = b"/photos/\\xc3\\xa9.jpg"
ROWS = [*FIRST, embedding(SPELLED_KEY)]


def write(output, run_id, embeddings, model=MODEL, write=WriteTFRecords):
    def build(root):
        return (root | beam.Create(embeddings),) | write(str(output), run_id, model)

    collect(build)


def write_runs(directory):
    """Writes three runs into a directory, the last with another model."""
    write(directory, "first", FIRST)
    write(directory, "second", SECOND)
    write(directory, "other", OTHERS, OTHER_MODEL)


def make_table(dataset):
    """Makes a table with rows of two models, in a dataset that there is not yet, and returns its name."""
    bq = bigquery.Client()
    bq.create_dataset(dataset)
    name = f"test.{dataset}.images"
    tables.prepare(name, DIGEST)
    rows = [embedding_row(each, RUN) for each in ROWS]
    rows += [embedding_row(each, dataclasses.replace(RUN, model=OTHER_MODEL)) for each in OTHERS]
    insert(bq, name, rows)
    return name


def insert(bq, name, rows):
    rows = [{k: v.isoformat() if isinstance(v, datetime.datetime) else v for k, v in row.items()} for row in rows]
    assert bq.insert_rows_json(name, rows) == []


def read_ledger(output=None, digest=DIGEST, table=None, run_id="now", vector_type="float32"):
    ledger = ReadLedger(table, str(output) if output else None, digest, run_id, vector_type)
    found, _ = collect(lambda root: {"known": root | ledger})
    return found["known"]


def identities(records):
    """Returns what tells embeddings or entries of the ledger apart."""
    return sorted(map(_identity, records))


def _identity(record):
    ref = record.info.ref if isinstance(record, Embedding) else record
    sha256 = record.info.sha256 if isinstance(record, Embedding) else record.sha256
    return ref.key, ref.version, sha256, ref.size, ref.crc32c
