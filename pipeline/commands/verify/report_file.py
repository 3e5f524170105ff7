"""The report of a run, read without the code that wrote it: its checksum, its fields, and whether its numbers agree."""

import datetime
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_BYTES = 64 * 2**20
COUNTS = ("listed", "embedded", "reused", "duplicate", "failed", "skipped")

# Numbers in a report are rounded to thousandths.
_ROUNDING = 0.0005
# Far above any number in a report. Products and sums of such numbers are finite.
_MAX_NUMBER = 1e100
_HEX = re.compile("[0-9a-f]{64}")


class Invalid(ValueError):
    """A report that cannot be used, because fields are missing or have other types."""


def parse(content: bytes) -> dict[str, Any]:
    """Returns the fields of a report, in their order.

    Raises:
      Invalid: with everything that keeps the report from being used.
    """
    try:
        fields = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not a JSON document: {error}") from error
    problems = list(_wrong_types(fields))
    if problems:
        raise Invalid("; ".join(problems))
    return dict(fields)


def damage(content: bytes, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yields the differences between a report and what the run wrote."""
    stored = fields.get("checksum")
    if stored is None:
        yield "no checksum: expected the field `checksum`, as every run writes it"
    elif stored != checksum(fields):
        yield "the checksum does not match"
    # The file must equal what a run writes, byte for byte. So white space is checked too.
    if (json.dumps(fields, indent=2) + "\n").encode() != content:
        yield "not in the form in which a run writes it"


def checksum(fields: Mapping[str, Any]) -> str:
    """Returns the checksum of a report: the SHA-256 of all other fields as JSON, with sorted names and no spaces."""
    content = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def vectors(fields: Mapping[str, Any]) -> int:
    """Returns how many vectors a run has written."""
    counts = fields["counts"]
    return int(counts["embedded"] + counts["reused"] + counts["duplicate"])


def other_failures(fields: Mapping[str, Any], stored: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """Yields in words where the numbers of stored failures, by (stage, error), differ from the report's."""
    reported = {
        (stage, error): images for stage, errors in fields["failures"].items() for error, images in errors.items()
    }
    for stage, error in sorted(stored.keys() | reported.keys()):
        own, expected = stored.get((stage, error), 0), reported.get((stage, error), 0)
        if own != expected:
            yield f"{own:,} {error} of the stage {stage}, expected {expected:,}"


def contradictions(fields: Mapping[str, Any], run_id: str) -> Iterator[str]:
    """Yields the contradictions in the report of this run. `fields` are as `parse` returns them."""
    counts = fields["counts"]
    if fields["run_id"] != run_id:
        yield f"it is of the run {fields['run_id']!r}"
    total = sum(counts[name] for name in COUNTS[1:])
    if counts["listed"] != total:
        yield f"{counts['listed']} images are listed, and their outcomes add up to {total}"
    by_error = sum(images for errors in fields["failures"].values() for images in errors.values())
    if counts["failed"] != by_error:
        yield f"{counts['failed']} images failed, and by error {by_error}"
    of_attempts = sum(fields["attempts"].values())
    if vectors(fields) != of_attempts:
        yield f"{vectors(fields)} vectors, and {of_attempts} of all attempts"
    yield from _of_times(fields)


def _of_times(fields: Mapping[str, Any]) -> Iterator[str]:
    elapsed, seconds, timings = fields["elapsed_seconds"], fields["seconds"], fields["timings"]
    started, finished = (datetime.datetime.fromisoformat(fields[name]) for name in ("started_at", "finished_at"))
    if not _near((finished - started).total_seconds(), elapsed, 0.002):  # each is cut to milliseconds
        yield f"{elapsed} seconds elapsed from {fields['started_at']} to {fields['finished_at']}"
    embedded, rate = fields["counts"]["embedded"], fields["images_per_second"]
    # The rate is that of the last attempt, and the counts are of all.
    if elapsed > _ROUNDING and len(fields["attempts"]) == 1:
        slowest, fastest = embedded / (elapsed + _ROUNDING), embedded / (elapsed - _ROUNDING)
        if not slowest - 2 * _ROUNDING <= rate <= fastest + 2 * _ROUNDING:
            yield f"{rate} images per second, with {embedded} images embedded in {elapsed} seconds"
    phases = fields["phases"]
    if phases and not _near(math.fsum(phases.values()), elapsed, _ROUNDING * (len(phases) + 2)):
        yield f"the phases add up to {math.fsum(phases.values()):.3f} seconds, {elapsed} elapsed"
    if seconds.keys() != timings.keys():
        yield f"seconds of the stages {', '.join(seconds)}, and timings of {', '.join(timings)}"
    for stage in seconds.keys() & timings.keys():
        timing = timings[stage]
        sum_of_times = timing["number"] * timing["mean_ms"] / 1e3
        if not _near(seconds[stage], sum_of_times, _ROUNDING * (2 + timing["number"] / 1e3)):
            yield f"{seconds[stage]} seconds of {stage}, and {timing['number']} times {timing['mean_ms']} ms"
        if timing["longest_ms"] < timing["mean_ms"] - 2 * _ROUNDING or timing["to_s"] < timing["from_s"]:
            yield f"the times of {stage} contradict each other: {timing}"


def _near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance + 1e-9 * max(abs(a), abs(b))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_text(value: Any) -> bool:
    """Returns whether a value is text that stands for bytes: UTF-8, or else lone surrogates as in names of files."""
    try:
        return isinstance(value, str) and value.encode("utf-8", "surrogateescape") is not None
    except UnicodeEncodeError:
        return False


def _is_time(value: Any) -> bool:
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


_Test = Callable[[Any], bool]


def _maps(is_value: _Test) -> _Test:
    return lambda value: isinstance(value, dict) and all(map(is_value, value.values()))


def _lists(is_item: _Test) -> _Test:
    return lambda value: isinstance(value, list) and all(map(is_item, value))


def _has(tests: Mapping[str, _Test]) -> _Test:
    """Returns the test whether a value is an object with these fields."""
    return lambda value: isinstance(value, dict) and all(test(value.get(name)) for name, test in tests.items())


def _is_empty_or(is_value: _Test) -> _Test:
    return lambda value: value == {} or is_value(value)


_MODEL: dict[str, _Test] = {
    **dict.fromkeys(("name", "format", "location", "signature", "precision"), _is_text),
    "digest": lambda value: isinstance(value, str) and _HEX.fullmatch(value) is not None,
    "dimension": lambda value: _is_count(value) and value > 0,
    "image_size": lambda value: _lists(_is_count)(value) and len(value) == 2,
    "tags": _lists(_is_text),
}
_TIMING = dict.fromkeys(("number", "mean_ms", "longest_ms", "from_s", "to_s"), _is_number)
_SPEED = {"from_s": _is_number, "span_s": _is_number, "images": _lists(_is_count)}
_PRUNING = {**dict.fromkeys(("prunable", "hidden", "untold"), _is_count), "places": _maps(_is_count)}

_FIELDS: dict[str, _Test] = {
    "run_id": _is_text,
    "started_at": _is_time,
    "finished_at": _is_time,
    "counts": lambda value: _maps(_is_count)(value) and value.keys() >= set(COUNTS),
    "pruned": _is_count,
    "failures": _maps(_maps(_is_count)),
    "inputs": _lists(_is_text),
    # Earlier versions did not write the output.
    "model": lambda value: _has(_MODEL)(value) and _is_text(value.get("output", "")),
    "shards": _is_count,
    "seconds": _maps(_is_number),
    "timings": _maps(_has(_TIMING)),
    "elapsed_seconds": _is_number,
    "images_per_second": _is_number,
    "verdict": _is_text,
    "phases": _maps(_is_number),
    "feed": _maps(_is_number),
    "device": _is_text,
    "files": _maps(_is_text),
    "attempts": _maps(_is_count),
}


# Reports of earlier versions have none of these.
_LATER_FIELDS: dict[str, _Test] = {
    "output_formats": _lists(lambda item: item in ("tfrecord", "parquet")),
    "vector_type": lambda value: value in ("float32", "float16"),
    "recall": _maps(_is_number),
    "speed": _is_empty_or(_has(_SPEED)),
    "pruning": _is_empty_or(_has(_PRUNING)),
    "left_out": _maps(_maps(_is_count)),
    "attempt": _is_count,
    "page_error": _is_text,
}


def _wrong_types(fields: Any) -> Iterator[str]:
    if not isinstance(fields, dict):
        yield "not a JSON object"
        return
    for name, is_valid in (_FIELDS | _LATER_FIELDS).items():
        if name in fields and not is_valid(fields[name]):
            yield f"the field {name} has another type or form than expected"
        elif name in _FIELDS and name not in fields:
            yield f"no field {name}"
