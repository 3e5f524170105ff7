"""The run report: counts, failures and times of a run, composed from its tally and stored as JSON."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.attempts import attempt_label
from pipeline.flags.options import EmbedConfig
from pipeline.report.phases import phases
from pipeline.report.tally import Tally
from pipeline.report.verdict import Measured, verdict
from pipeline.runners import presets
from transforms.concurrent.cores import usable_cores
from transforms.decoders.job import ONE_A_CORE
from transforms.elements.formats import OUTPUT_FORMATS, SHARD_FORMATS, VECTOR_TYPES
from transforms.elements.one_line import one_line
from transforms.elements.records import Shard, StageSeconds
from transforms.models.spec import ModelSpec
from transforms.output import layout, shards
from transforms.storage import contested, files
from transforms.storage.choice import by_kind

COUNTS = ("listed", "embedded", "reused", "duplicate", "failed", "skipped")

# Numbers of rows besides `pruned`.
PRUNING = ("prunable", "hidden", "untold")

# A report has a few KB. Its longest parts are the patterns of the inputs.
MAX_REPORT_BYTES = 16 * 2**20

# The parts of a report's counts, model and feed that this project reads again.
_READ_AGAIN: dict[str, dict[str, Any]] = {
    "counts": dict.fromkeys(COUNTS, int),
    "model": {"name": str, "digest": str, "dimension": int, "image_size": tuple[int, int]},
    "feed": {"images_per_second": float, "core_ms": float, "lock_ms": float, "cores": int, "worker_processes": int},
    "recall": {"at_10": float, "vectors": int},
    "pruning": dict.fromkeys(PRUNING, int),
    "speed": {"from_s": float, "span_s": float, "images": list[int]},
}


@dataclasses.dataclass(frozen=True)
class RunReport:
    """The content of `runs/<run_id>.json`.

    Attributes:
      counts: numbers of images: listed = embedded + reused + duplicate + failed + skipped.
      pruned: rows removed from the table, because their images are gone.
      pruning: with --prune, the numbers of rows of this model whose images the input covers: `prunable`, those that may
        be pruned at all; `hidden`, those that stay because a place could not be listed; `untold`, those that are not
        listed and stay because their record does not say that the image was a file. `places` are some of the places,
        with the rows that each hides. Empty without --prune.
      left_out: files that the listing left out for their names, which are in no other count: `hidden` ones, `other`
        files that do not look like images, and images `beside` the matches of a pattern that names an extension → kind
        of name → number.
      failures: stage → error → number of images.
      inputs: the patterns that were listed.
      model: the ModelSpec, with the number of its classes in place of their names.
      shards: files of embeddings.
      seconds: stage → seconds that the workers' threads were busy with it, all threads together. In `digest` and `read`
        threads wait for files in flight, for their digests and for their pixels. In `load` they wait for the model to
        be loaded, and in `wait` for their turn to call it. `embed` is the model. `write` encodes and writes files. The
        other stages are `list` and `decode`. With decoder processes, `read` and `decode` are theirs, and in
        `wait_decode` threads wait for them. `bundle` is all that runs in the threads with the model, from reading to
        writing, and Beam between the stages. Beam's own steps, such as loading rows into BigQuery, are not included.
      timings: stage → `number` of images, files or lists, their `mean_ms` and `longest_ms`, and when the first began
        (`from_s`) and the last ended (`to_s`), in seconds after the start of the command. If images share a call, also
        `batch_size`, the mean number of images per call, and where it was measured `core_ms`, the mean CPU time.
      elapsed_seconds: from the start of the command until all files are written. Rows are published, files named and
        the page made after that.
      images_per_second: images that this attempt embedded, over elapsed seconds.
      verdict: what limited this run, in one sentence.
      phases: phase → seconds, as verdict.phases returns them. They add up to the elapsed seconds.
      feed: how many images a second a machine could give to its devices, and the measurements for that: see InputRate.
        Empty if fewer than 1,000 images were embedded.
      device: the device that the model ran on; "" if it did not run.
      attempts: start of each attempt at this run → number of vectors that come from it. The times are of the last one.
      files: path below the output → SHA-256 in hex, of the files that have no checksums of their own: failures, the
        schema, and in the file also the page and its statistics. The Parquet files have one entry in common, whose
        value is the SHA-256 of their SHA-256 in hex, in the order of their names. Empty without --output.
      output_formats, vector_type: of the files of embeddings.
      recall: in float16, how many of its neighbours in float32 a vector keeps: `at_10` is the mean share of the ten
        nearest, over the `vectors` of a sample. Empty in float32, and if fewer than 11 images were embedded.
      page_error: why the run has no page, only in the file; "" if it has one, or was asked for none.
      speed: images embedded over time: `images[i]` of them in the span of `span_s` seconds that begins
        `from_s + i * span_s` seconds after the start of the command. Empty if the model did not run.
      attempt: number of the attempt that wrote the report, among those at this run. 0 in reports of earlier versions.
    """

    run_id: str
    started_at: str
    finished_at: str
    counts: dict[str, int]
    pruned: int
    failures: dict[str, dict[str, int]]
    inputs: list[str]
    model: dict[str, Any]
    shards: int
    seconds: dict[str, float]
    timings: dict[str, dict[str, float]]
    elapsed_seconds: float
    images_per_second: float
    verdict: str
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    feed: dict[str, float] = dataclasses.field(default_factory=dict)
    device: str = ""
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    output_formats: list[str] = dataclasses.field(default_factory=lambda: list(OUTPUT_FORMATS[:1]))
    vector_type: str = VECTOR_TYPES[0]
    recall: dict[str, float] = dataclasses.field(default_factory=dict)
    speed: dict[str, Any] = dataclasses.field(default_factory=dict)
    pruning: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    attempt: int = 0
    page_error: str = ""

    def to_json(self) -> str:
        """Returns the content of the file: all fields, and their checksum in the field `checksum`."""
        fields = dataclasses.asdict(self)
        return json.dumps(fields | {"checksum": _checksum(fields)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "the text") -> "RunReport":
        """Returns the report that `to_json` wrote, without the fields that only a newer version knows.

        Args:
          text: JSON.
          source: where the text is from, for the message.

        Raises:
          ValueError: if the text is no JSON, or a field is missing or of another type.
        """
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source} is not a run report: expected JSON ({one_line(error, 200)})") from error
        expected = typing.get_type_hints(cls)
        defaults = ((field.name, field.default, field.default_factory) for field in dataclasses.fields(cls))
        optional = {name for name, *default in defaults if default != [dataclasses.MISSING] * 2}
        wrong = _wrong_fields(facts, expected, optional)
        for part, fields in _READ_AGAIN.items():
            if not wrong and (facts.get(part) or part not in optional):
                wrong = [f"{part}.{name}" for name in _wrong_fields(facts[part], fields)]
        if wrong:
            raise ValueError(
                f"{source} is not a run report: missing or of another type than expected: {', '.join(wrong)}"
            )
        return cls(**{name: facts[name] for name in expected if name in facts})

    @property
    def failure_rate(self) -> float:
        return self.counts["failed"] / self.counts["listed"] if self.counts["listed"] else 0.0

    def exceeds(self, max_failure_rate: float | None) -> str | None:
        """Returns a message if more images failed than allowed, else None. Without a rate, all but one may fail."""
        if max_failure_rate is None:
            every_one = (
                f"{self.counts['failed']} of {self.counts['listed']} images failed: --max_failure_rate 1 allows it"
            )
            return every_one if self.failure_rate == 1 else None
        if self.failure_rate <= max_failure_rate:
            return None
        return (
            f"{self.counts['failed']} of {self.counts['listed']} images failed, {self.failure_rate:.2%}: "
            f"more than --max_failure_rate {max_failure_rate:.2%}"
        )


def timestamp(moment: datetime.datetime) -> str:
    """Returns a moment as reports state it."""
    return moment.isoformat(timespec="milliseconds")


def lacks_page(output: str, report: RunReport) -> bool:
    """Returns whether the report names a file of the page that is missing, or says why there is no page.

    Raises:
      OSError: if the output cannot be listed.
    """
    named = [of for of in layout.OF_PAGE if of("", report.run_id) in report.files]
    return bool(report.page_error) or not all(files.match(of(output, report.run_id)) for of in named)


def read(output: str, run_id: str) -> RunReport | None:
    """Returns the report of a run, or None if it does not exist (yet).

    Raises:
      ValueError: if the file is not a report.
      OSError: if it cannot be read.
    """
    path = layout.report(output, run_id)
    if not files.match(path):
        return None
    with files.open_stored(path) as file:
        text = file.read(MAX_REPORT_BYTES + 1)
    if len(text) > MAX_REPORT_BYTES:
        raise ValueError(f"{path!r} is not a run report: expected at most {MAX_REPORT_BYTES} bytes")
    return RunReport.from_json(text, repr(path))


def write(output: str, report: RunReport, check: Callable[[], object] | None = None) -> None:
    """Writes the report of a run, see `files.write`. A run that has a report counts as complete."""
    files.write(layout.report(output, report.run_id), report.to_json().encode(), check)


def replace(output: str, report: RunReport, state: str | None) -> None:
    """Writes the report of a run, unless another process has written one meanwhile.

    Args:
      output: of the run.
      report: of the run.
      state: of the report that it replaces, see `contested.write`; None if there was none.
    """
    with contextlib.suppress(contested.Lost):
        contested.write(layout.report(output, report.run_id), report.to_json().encode(), state)


def file_digests(run_id: str, schema: bytes, parts: Sequence[Shard]) -> dict[str, str]:
    """Returns the field `files` of a run whose files have no final names yet.

    TFRecords are not in it: each has a checksum, and the report counts them. There may be many Parquet files, and a
    report has to fit into a row of a table, so they have one digest in common.

    Args:
      run_id: of the run.
      schema: the content of `schema.pbtxt`.
      parts: the complete parts that become the files of failures, and the Parquet files.
    """
    digests = {layout.SCHEMA: hashlib.sha256(schema).hexdigest()}
    of_failures = [part for part in parts if part.path.endswith(layout.FAILURE_SUFFIX)]
    of_parquet = [part for part in parts if part.path.endswith(".parquet")]
    for _, shard in shards.number(of_failures, layout.failures("", run_id)):
        digests[shard.path] = shard.sha256
    if of_parquet:
        in_order = "".join(shard.sha256 for _, shard in shards.number(of_parquet, ""))
        digests[layout.shards(layout.vectors("", run_id), ".parquet")] = hashlib.sha256(in_order.encode()).hexdigest()
    return digests


def _checksum(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def compose(
    config: EmbedConfig,
    model: ModelSpec,
    tally: Tally,
    finished_at: datetime.datetime,
    file_digests: Mapping[str, str] | None = None,
    has_many_processes: bool = False,
) -> RunReport:
    """Returns the report of a run.

    Args:
      config: the configuration of the run.
      model: the model that it embedded with.
      tally: of all workers. Without --output it has no records, `lines` and `shards`.
      finished_at: when the last file was complete.
      file_digests: of the run's files, as the function of that name returns them.
      has_many_processes: whether a machine runs a worker process for each core.

    Raises:
      RuntimeError: if an image is unaccounted for. Such a report is not written.
    """
    counts = {name: tally.counts.get(name, 0) for name in COUNTS}
    _check_accounts(counts, tally, config.output_formats if config.output else None)
    elapsed = (finished_at - config.started_at).total_seconds()
    embedded_now = counts["embedded"] - sum(n for (_, outcome), n in tally.origins.items() if outcome == "embedded")
    stages = _by_stage(tally.times, config.started_at.timestamp())
    device = ", ".join(sorted({device for _, device in tally.times if device}))
    worker_processes = _cores(config) if has_many_processes else 1
    decoders = _cores(config) if config.decode_processes == ONE_A_CORE else config.decode_processes
    measured = Measured(
        counts,
        stages,
        elapsed,
        device,
        cores=_cores(config),
        batch_size=config.batch_size,
        read_concurrency=None if config.input_format in SHARD_FORMATS else config.read_concurrency,
        precision=config.precision,
        decodes_in_processes=bool(config.decode_processes),
        decodes_elsewhere=config.runs_on.separate_gpu_stage,
        worker_processes=worker_processes,
        decoder_processes=decoders * worker_processes,
    )
    return RunReport(
        run_id=config.run_id,
        started_at=timestamp(config.started_at),
        finished_at=timestamp(finished_at),
        counts=counts,
        pruned=tally.counts.get("pruned", 0),
        pruning=_pruning(tally) if config.prune else {},
        failures=_failures_by_stage(tally.failures),
        inputs=list(config.inputs),
        model=model.facts() | {"classes": len(model.classes)},
        shards=tally.counts.get("shards", 0),
        seconds={stage: round(time.seconds, 3) for stage, time in stages.items()},
        timings={stage: _timing(time) for stage, time in stages.items()},
        elapsed_seconds=round(elapsed, 3),
        images_per_second=round(embedded_now / elapsed, 3) if elapsed > 0 else 0.0,
        verdict=verdict(measured),
        phases={phase: round(seconds, 3) for phase, seconds in phases(stages, elapsed).items()},
        feed=measured.input_rate.facts() if measured.input_rate else {},
        device=device,
        attempts=_attempts(config, counts, tally),
        files=dict(file_digests or {}),
        output_formats=list(config.output_formats),
        vector_type=config.vector_type,
        speed=tally.speed.facts(config.started_at.timestamp()),
        left_out=by_kind(tally.left_out),
    )


def _attempts(config: EmbedConfig, counts: Mapping[str, int], tally: Tally) -> dict[str, int]:
    vectors: Counter[str] = Counter()
    for (attempt, _), images in sorted(tally.origins.items()):
        vectors[attempt_label.started_at(attempt)] += images
    own = counts["embedded"] + counts["reused"] + counts["duplicate"] - sum(vectors.values())
    return dict(vectors) | {timestamp(config.started_at): own}


def _wrong_fields(facts: Any, expected: Mapping[str, Any], optional: typing.Collection[str] = ()) -> list[str]:
    """Returns the names of fields that a JSON object lacks, or whose values are not of the expected types."""
    if not isinstance(facts, dict):
        return list(expected)
    return [
        name for name, kind in expected.items() if not (_is(facts[name], kind) if name in facts else name in optional)
    ]


def _is(value: Any, kind: Any) -> bool:
    """Returns whether a value of JSON has a type, such as int or dict[str, float]."""
    container, parameters = typing.get_origin(kind), typing.get_args(kind)
    if container is dict:
        return isinstance(value, dict) and all(_is(item, parameters[1]) for item in value.values())
    if container is list:
        return isinstance(value, list) and all(_is(item, parameters[0]) for item in value)
    if container is tuple:
        return isinstance(value, list) and len(value) == len(parameters) and all(map(_is, value, parameters))
    if kind is Any:
        return True
    if isinstance(value, int) and value.bit_length() > 63:  # JSON has longer ones, which no float can hold
        return False
    return isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)


def _pruning(tally: Tally) -> dict[str, Any]:
    numbers = {name: tally.counts.get(name, 0) for name in PRUNING}
    return numbers | {"places": dict(sorted(tally.hidden.items()))}


def _check_accounts(counts: Mapping[str, int], tally: Tally, formats: Sequence[str] | None) -> None:
    """Checks the sums; `formats` of the files are None if there are no files."""
    vectors, failed = counts["embedded"] + counts["reused"] + counts["duplicate"], counts["failed"]
    adds_up = counts["listed"] == vectors + failed + counts["skipped"]
    if formats is not None:
        written = [tally.counts.get(output_format, 0) for output_format in formats]
        adds_up = adds_up and written == [vectors] * len(formats) and tally.counts.get("lines", 0) == failed
    if not adds_up or failed != sum(tally.failures.values()):
        raise RuntimeError(
            f"images are unaccounted for: {dict(tally.counts)}, failures by error: {dict(tally.failures)}"
        )


def _failures_by_stage(failures: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    by_stage: dict[str, dict[str, int]] = {}
    for (stage, error), images in sorted(failures.items()):
        by_stage.setdefault(stage, {})[error] = images
    return by_stage


def _by_stage(times: Mapping[tuple[str, str], StageSeconds], started_at: float) -> dict[str, StageSeconds]:
    """Returns the times of each stage on all devices, in seconds after `started_at`."""
    by_stage: dict[str, StageSeconds] = {}
    for (stage, _), time in sorted(times.items()):
        by_stage[stage] = by_stage[stage].merge(time) if stage in by_stage else time
    return {stage: time.since(started_at) for stage, time in by_stage.items()}


def _cores(config: EmbedConfig) -> int:
    """Returns the number of cores of a machine that embeds."""
    runs_on = config.runs_on
    if runs_on.preset != "dataflow-gpu":
        return usable_cores()  # this worker composes the report, and is like those that embed
    gpu = runs_on.gpu or str(presets.settings(runs_on.preset)["gpu"])
    return presets.shape(presets.accelerator(gpu, runs_on.gpu_count, runs_on.gpu_machine_type).machine_type).vcpus


def _timing(time: StageSeconds) -> dict[str, float]:
    timing = {
        "number": time.items,
        "mean_ms": round(time.seconds / time.items * 1e3, 3),
        "longest_ms": round(time.longest * 1e3, 3),
        "from_s": round(time.started, 3),
        "to_s": round(time.ended, 3),
    }
    # A sum of fractions, such as thirds, is not exactly a whole number.
    is_batched = abs(time.calls - time.items) >= 1e-6 * time.items
    if time.core_seconds:
        timing["core_ms"] = round(time.core_seconds / time.items * 1e3, 4)
    return timing | {"batch_size": round(time.items / time.calls, 2)} if is_batched else timing
