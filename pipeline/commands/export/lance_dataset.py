"""A Lance dataset and its vector index, through pylance. Each block of rows is a version of its own.

Several processes may write to one dataset. Lance commits changes that do not conflict, and repeats the others on top of
the other writer's version. It compares inserted keys only if the schema names the key, as that of an export does:
https://lance.org/guide/read_and_write/#merge-insert
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

try:
    import lance
except ImportError as missing:
    raise ValueError("--to lance needs pylance: pip install '.[lance]'") from missing

from pipeline.commands.export.target import LeftOut, Model, Row, Target, TargetRow, other_model, target_rows

# Fewer rows are searched exactly, which takes milliseconds.
MIN_INDEXED = 5_000

# One byte for each component, and any dimension. IVF_PQ has to split the dimension into equal parts.
_INDEX_TYPE = "IVF_SQ"
_VECTOR = "embedding"
_METRICS = {"cosine": "cosine", "l2": "l2", "ip": "dot"}
_OF_CONTENT = ("key", "sha256", "version", "model_digest")
_ROWS_AT_ONCE = 10_000

# Without it two processes that insert one key would both succeed.
_KEY_METADATA = {"lance-schema:unenforced-primary-key": "true"}
# In the metadata of the schema.
_MODEL = "model_digest"
# How often the dataset tries work that another writer preempts.
_TRIES = 10

# Lance's own caches would take up to 7 GiB.
_INDEX_CACHE_BYTES = 2**27
_METADATA_CACHE_BYTES = 2**26


class LanceDataset(Target):
    """A dataset with one row for each key. Its earlier versions stay."""

    ERRORS: ClassVar[tuple[type[Exception], ...]] = (OSError, RuntimeError)
    IS_LOG: ClassVar[bool] = False

    def __init__(self, uri: str, metric: str, model: Model):
        """Opens the dataset, if there is one, at a local path or another URI that Lance reads, such as gs://."""
        self._uri, self._metric, self._model = uri, _METRICS[metric], model
        self._flag = f"--destination {uri!r}"
        self._dataset: Any = _opened(uri)
        self._schema = pa.schema(
            [
                pa.field("key", pa.string(), nullable=False, metadata=_KEY_METADATA),
                *(pa.field(name, pa.string()) for name in ("sha256", "version", "format")),
                *(pa.field(name, pa.int64()) for name in ("height", "width", "size")),
                pa.field("model_digest", pa.string()),
                pa.field(_VECTOR, pa.list_(pa.float32(), model.dimension)),
            ],
            metadata={_MODEL: model.digest},
        )

    def stored(self) -> Iterator[TargetRow]:
        """Yields the rows of the dataset, after a check of its columns."""
        if self._dataset is None:
            return
        self._check_schema()
        scanner = self._dataset.scanner(list(_OF_CONTENT), batch_size=_ROWS_AT_ONCE)
        for batch in scanner.to_batches():
            columns = (batch.column(name).to_pylist() for name in _OF_CONTENT)
            yield from target_rows(self._flag, zip(*columns, strict=True), self._model)

    def prepare(self, sends: bool, deletes: bool) -> None:
        if self._dataset is None:
            try:
                lance.write_dataset(self._schema.empty_table(), self._uri)
            except OSError as error:  # another export may have made it meanwhile
                if "already exists" not in str(error):
                    raise
            self._dataset = _opened(self._uri)
            self._check_schema()
        elif (sends or deletes) and not self._dataset.schema.field("key").metadata:
            # Earlier versions named no key. Lance refuses to name a column that may be null.
            with contextlib.suppress(OSError):
                self._dataset.update_field_metadata({"key": _KEY_METADATA})
            self._dataset.checkout_latest()  # another export may have named it meanwhile

    def upsert(self, rows: Sequence[Row]) -> list[LeftOut]:
        """Merges rows by their keys."""
        columns = zip(*(row.columns(self._model) for row in rows), strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=False)]
        components = pa.array(np.stack([row.vector for row in rows]).reshape(-1), pa.float32())
        arrays.append(pa.FixedSizeListArray.from_arrays(components, self._model.dimension))
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        merge = self._dataset.merge_insert("key")
        merge.when_matched_update_all().when_not_matched_insert_all().execute(table)
        return []

    def delete(self, row_keys: Sequence[str]) -> None:
        self._dataset.delete(pc.field("key").isin(list(row_keys)))

    def finish(self, changed: bool, say: Callable[[str], None]) -> tuple[str, bool]:
        """Joins small files, and builds the index for the metric, or adds the new rows to it."""
        say("building the index")
        self._dataset.checkout_latest()
        rows = self._dataset.count_rows()
        name = f"{_VECTOR}_{self._metric}"
        exists = any(index.name == name for index in self._dataset.describe_indices())
        if not exists and rows < MIN_INDEXED:
            return f"none: {rows:,} rows are searched exactly; there is an index from {MIN_INDEXED:,} rows on", False
        if exists and not changed:
            return f"{_INDEX_TYPE} ({self._metric}), there already", False
        began = time.monotonic()
        self._unpreempted(lambda: self._dataset.optimize.compact_files(batch_size=_ROWS_AT_ONCE // 10, num_threads=1))
        if exists:
            self._unpreempted(lambda: self._dataset.optimize.optimize_indices(index_names=[name]))
        else:
            self._unpreempted(lambda: self._dataset.create_index(_VECTOR, _INDEX_TYPE, name, self._metric))
        done = "brought up to date" if exists else "built"
        return f"{_INDEX_TYPE} ({self._metric}), {done} in {time.monotonic() - began:.1f} s", True

    def search(self, queries: npt.NDArray[np.float32], count: int) -> list[list[str]]:
        """Returns the keys that the index finds with Lance's defaults."""
        answers = []
        for query in queries:
            nearest = {"column": _VECTOR, "q": query, "k": count, "metric": self._metric}
            rows = self._dataset.to_table(columns=["key", "_distance"], nearest=nearest)
            answers.append(rows.column("key").to_pylist())
        return answers

    def _check_schema(self) -> None:
        """Raises ValueError if the dataset has other columns, or was made for another model."""
        schema = self._dataset.schema
        for field in self._schema:
            existing = schema.field(field.name).type if field.name in schema.names else "missing"
            if existing != field.type:
                raise ValueError(
                    f"{self._flag}: its column {field.name!r} is {existing}: expected {field.type}; "
                    "choose another destination"
                )
        digest = (schema.metadata or {}).get(_MODEL.encode(), self._model.digest.encode()).decode()
        if digest != self._model.digest:
            raise other_model(self._flag, digest, self._model)

    def _unpreempted(self, work: Callable[[], object]) -> None:
        """Does work on the latest version, and again if another writer was faster."""
        for left in reversed(range(_TRIES)):
            self._dataset.checkout_latest()
            try:
                work()
                return
            except OSError as error:
                if not left or "conflict" not in str(error):
                    raise


def _opened(uri: str) -> "lance.LanceDataset | None":
    """Returns the dataset, or None if there is none."""
    if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        os.environ.setdefault("AWS_ALLOW_HTTP", "true")  # which Lance's client asks for
    session = lance.Session(index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES)
    try:
        return lance.dataset(uri, session=session)
    except ValueError as error:
        if "not found" in str(error):
            return None
        raise
