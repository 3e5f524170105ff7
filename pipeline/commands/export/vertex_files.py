"""Files for Vertex AI Vector Search: batches of inserts and deletes, as its batch updates take them.

    DIR/batches/00001/part-00000.json        {"id": …, "embedding": […]}, a line for each row
    DIR/batches/00001/delete/part-00000.txt  an id on each line
    DIR/batches/00001.json                   for gcloud's --metadata-file; a batch is complete once this is there
    DIR/ledger/00001/part-00000.jsonl        keys and contents in the batch; deleted-00000.jsonl: keys
    DIR/model.json                           the model of all vectors

The format and its limits: https://cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure. A batch has
each id once. It has only data files and the directory `delete`, so the ledger lies elsewhere.

An entry of the ledger is written only if its name is free. So one of several exports into a directory continues, and
the others fail.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from pipeline.commands.export.target import LeftOut, Model, Row, Target, TargetRow, content, other_model
from transforms.storage import contested, files

# "There is a limit of 5000 objects (files) in the batch root directory."
MAX_FILES = 5_000

# How Vertex AI names the metrics. For the cosine its documentation recommends the dot product of unit vectors:
# https://cloud.google.com/vertex-ai/docs/vector-search/configuring-indexes
_METRICS = {
    "cosine": {"distanceMeasureType": "DOT_PRODUCT_DISTANCE", "featureNormType": "UNIT_L2_NORM"},
    "l2": {"distanceMeasureType": "SQUARED_L2_DISTANCE"},
    "ip": {"distanceMeasureType": "DOT_PRODUCT_DISTANCE"},
}
_NEIGHBOURS = 150
_LEDGER = re.compile(r"ledger/(\d{5})/(part|deleted)-(\d{5})\.jsonl")
_BATCH = re.compile(r"batches/(\d{5})(\.json|/.+)")


class VertexFiles(Target):
    """A directory of batches. Its ledger lists its rows.

    A file of the ledger is written after the file of the batch that it describes. If an export was killed in between,
    the next one removes the file of the batch, ends the batch, and begins a new one. Before that, it reserves the next
    entry of the ledger with empty files. So an export that was only stopped fails there when it wakes.
    """

    ERRORS: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    IS_LOG: ClassVar[bool] = True

    def __init__(self, directory: str, metric: str, model: Model):
        """Reads nothing yet. The directory is local or gs://. The metric is for the index made from the first batch."""
        self._directory, self._metric, self._model = directory, metric, model
        self._number = 0
        self._files_of_batch = 0
        self._entry = 0
        self._first_of_this = 0

    def stored(self) -> Iterator[TargetRow]:
        """Yields the rows of all batches, in order, complete or not."""
        names = self._names()
        if "model.json" not in names:
            return
        self._check_model()
        for name in sorted(filter(_LEDGER.fullmatch, names)):
            path = f"{self._directory}/{name}"
            with files.open_stored(path) as file:
                yield from (_stored(path, line) for line in file)

    def prepare(self, sends: bool, deletes: bool) -> None:
        """Writes the model, and ends the batch that a killed export has begun."""
        names = self._names()
        if "model.json" not in names:
            model = json.dumps(self._model._asdict()).encode()
            with contextlib.suppress(contested.Lost):
                contested.write(f"{self._directory}/model.json", model, None)
        self._check_model()
        begun = {entry[1] for name in names if (entry := _BATCH.fullmatch(name) or _LEDGER.fullmatch(name))}
        incomplete = sorted(batch for batch in begun if f"batches/{batch}.json" not in names)
        entries = {batch: self._take_entry(batch) for batch in incomplete}
        names = self._names()
        in_ledger = {
            (entry[1], _batch_file(entry[2], entry[3]))
            for name, size in names.items()
            if size and (entry := _LEDGER.fullmatch(name))
        }
        for batch in incomplete:
            prefix = f"batches/{batch}/"
            for name in [name.removeprefix(prefix) for name in names if name.startswith(prefix)]:
                if (batch, name) not in in_ledger:
                    files.remove_file(f"{self._directory}/{prefix}{name}")
            if any(number == batch for number, _ in in_ledger):
                self._complete(int(batch))
        self._number = max((int(number) for number, _ in in_ledger), default=0)
        self._first_of_this = self._number + 1
        self._entry = entries.get(f"{self._first_of_this:05d}", 0)

    def upsert(self, rows: Sequence[Row]) -> list[LeftOut]:
        """Writes a file of rows, then its ledger."""
        line = '{"id": %s, "embedding": [' + ", ".join(["%.9g"] * self._model.dimension) + "]}\n"
        ids = [json.dumps(row.key) for row in rows]
        text = "".join(line % (name, *row.vector.tolist()) for name, row in zip(ids, rows, strict=True))
        self._write("part", text, [TargetRow(row.key, content(row.info.sha256, row.info.ref.version)) for row in rows])
        return []

    def delete(self, row_keys: Sequence[str]) -> None:
        """Writes a file of ids to delete, then its ledger."""
        self._write("deleted", "".join(f"{key}\n" for key in row_keys), [TargetRow(key, None) for key in row_keys])

    def finish(self, changed: bool, say: Callable[[str], None]) -> tuple[str, bool]:
        if self._number < self._first_of_this:
            return "no new batch", False
        self._complete(self._number)
        numbers = f"{self._first_of_this:05d}"
        if self._number > self._first_of_this:
            numbers += f" to {self._number:05d}"
        return (
            f"Vertex AI builds it from {self._directory}/batches, new is {numbers}: import the batches in order",
            False,
        )

    def _write(self, kind: str, text: str, stored: Sequence[TargetRow]) -> None:
        if self._number < self._first_of_this or self._files_of_batch == MAX_FILES:
            if self._files_of_batch:
                self._complete(self._number)
                self._entry = 0
            self._number += 1
            self._files_of_batch = 0
        batch, number = f"{self._number:05d}", f"{self._entry:05d}"
        path = f"{self._directory}/batches/{batch}/{_batch_file(kind, number)}"
        lines = "".join(json.dumps(row) + "\n" for row in stored)
        try:
            state = contested.write(path, text.encode(), None)
            try:
                contested.write(f"{self._directory}/ledger/{batch}/{kind}-{number}.jsonl", lines.encode(), None)
            except contested.Lost:
                with contextlib.suppress(contested.Lost):  # the other export has removed it
                    contested.remove(path, state)
                raise
        except contested.Lost as error:
            raise contested.Lost(f"another export writes to batch {batch}: expected one at a time") from error
        self._entry += 1
        self._files_of_batch += 1

    def _take_entry(self, batch: str) -> int:
        """Reserves the next entry in the ledger of a batch, and returns the number of the entry after it."""
        while True:
            entries = [entry for name in self._names() if (entry := _LEDGER.fullmatch(name)) and entry[1] == batch]
            number = max((int(entry[3]) for entry in entries), default=-1) + 1
            with contextlib.suppress(contested.Lost):
                for kind in ("part", "deleted"):
                    contested.write(f"{self._directory}/ledger/{batch}/{kind}-{number:05d}.jsonl", b"", None)
                return number + 1

    def _complete(self, number: int) -> None:
        """Writes the metadata of a batch. The first one makes an index, and the others update it."""
        metadata: dict[str, object] = {"contentsDeltaUri": f"{self._directory}/batches/{number:05d}"}
        if number == 1:
            metadata["config"] = {
                "dimensions": self._model.dimension,
                "approximateNeighborsCount": _NEIGHBOURS,
                **_METRICS[self._metric],
                "algorithmConfig": {"treeAhConfig": {}},
            }
        else:
            metadata["isCompleteOverwrite"] = False
        files.write(f"{self._directory}/batches/{number:05d}.json", (json.dumps(metadata, indent=2) + "\n").encode())

    def _check_model(self) -> None:
        """Raises ValueError if the directory is of another model."""
        model = self._stored_model()
        if model.digest != self._model.digest:
            raise other_model(f"--destination {self._directory!r}", model.digest, self._model)
        if model.dimension != self._model.dimension:
            raise ValueError(
                f"--destination {self._directory!r} has vectors of {model.dimension} dimensions, and --embeddings of "
                f"{self._model.dimension}: expected the same number; choose another destination"
            )

    def _stored_model(self) -> Model:
        path = f"{self._directory}/model.json"
        match _parsed(path, files.read(path)):
            case {"digest": str(digest), "dimension": int(dimension)}:
                return Model(digest, dimension)
        raise ValueError(f"{path}: broken: expected the digest and the dimension of a model")

    def _names(self) -> dict[str, int]:
        """Returns the names of all files in the directory, and their sizes in bytes."""
        prefix = f"{self._directory}/"
        return {metadata.path.removeprefix(prefix): metadata.size for metadata in files.match(f"{prefix}**")}


def _stored(path: str, line: bytes) -> TargetRow:
    match _parsed(path, line):
        case [str(key), str() | None as stored_content]:
            return TargetRow(key, stored_content)
    raise ValueError(f"{path}: broken: expected a key and a content on each line")


def _parsed(path: str, text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: broken: expected JSON ({error})") from error


def _batch_file(kind: str, number: str) -> str:
    return f"part-{number}.json" if kind == "part" else f"delete/part-{number}.txt"
