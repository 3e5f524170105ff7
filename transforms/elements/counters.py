"""Metric names, and counting: for the runner's own pages and for the live progress of a local run."""

import collections
import functools
import threading

from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.runners.runner import PipelineResult

NAMESPACE = "images"

IMAGES_LISTED = "images_listed"
IMAGES_READ = "images_read"
BYTES_READ = "bytes_read"
IMAGES_DECODED = "images_decoded"
IMAGES_EMBEDDED = "images_embedded"
IMAGES_FAILED = "images_failed"
IMAGES_SKIPPED = "images_skipped"
IMAGES_REUSED = "images_reused"
IMAGES_DUPLICATE = "images_duplicate"
IMAGES_RESUMED = "images_resumed"

# A distribution with one value per image. RunInference adds the size and latency of batches under names of its own.
DECODE_MICROSECONDS = "decode_microseconds"

# The counts of this process, only for progress. During a local run, some runners answer a query for metrics
# only between stages, and others not at all.
_counted: collections.Counter[str] = collections.Counter()
_lock = threading.Lock()


def inc(name: str, by: int = 1) -> None:
    """Adds to a counter, inside a DoFn."""
    _metric(name).inc(by)
    with _lock:
        _counted[name] += by


def observe(name: str, seconds: float) -> None:
    """Adds a time to a distribution of microseconds, inside a DoFn."""
    _distribution(name).update(round(seconds * 1e6))


def failed(stage: str) -> str:
    """Returns the name under which failures of one stage are counted."""
    return f"{IMAGES_FAILED}_{stage}"


def of_process() -> dict[str, int]:
    """Returns the counts of this process since `reset`, by name."""
    with _lock:
        return dict(_counted)


def of_job(result: PipelineResult) -> dict[str, int]:
    """Returns the counts of all workers by name, as the runner reports them. They may lag behind."""
    job_counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    return {counter.key.metric.name: counter.attempted or 0 for counter in job_counters}


def reset() -> None:
    """Sets the counts of this process to zero, for a new run."""
    with _lock:
        _counted.clear()


@functools.cache
def _metric(name: str) -> Metrics.DelegatingCounter:
    return Metrics.counter(NAMESPACE, name)


@functools.cache
def _distribution(name: str) -> Metrics.DelegatingDistribution:
    return Metrics.distribution(NAMESPACE, name)
