"""Facts of a run that never ran, for its page: a report, a seeded sample, and failures."""

import dataclasses

import numpy as np

from pipeline.report.page.facts import FailedImage, RunFacts
from pipeline.report.page.sampled_images import Sample
from tests.helpers import data_generation as data

HOSTILE = "<img src=x onerror=document.title=1>.jpg"
PICTURES = [data.encoded(data.photograph(seed, 72, 96), quality=60) for seed in range(6)]


def sample(images: int = 24, dimension: int = 32, seed: int = 0, prefix: str = "/photos/") -> Sample:
    """Returns a sample whose vectors are unlike each other, with thumbnails."""
    vectors = np.random.default_rng(seed).standard_normal((images, dimension)).astype(np.float32)
    keys = tuple(f"{prefix}{number:03d}.jpg".encode() for number in range(images))
    return Sample(keys, vectors, tuple(PICTURES[number % len(PICTURES)] for number in range(images)), 120.0)


def report(**changes) -> dict:
    """Returns the content of a report of 30 images, 3 of which failed."""
    return {
        "run_id": "20261128T224954Z-998d1cf586dd",
        "started_at": "2026-11-28T22:49:54.123+00:00",
        "counts": {"listed": 30, "embedded": 20, "reused": 4, "duplicate": 1, "failed": 3, "skipped": 2},
        "failures": {"decode": {"CorruptImage": 2}, "read": {"OSError": 1}},
        "inputs": ["/photos/*.jpg"],
        "model": {"name": "tiny", "digest": "d1", "dimension": 32, "image_size": [32, 32], "precision": "float32"},
        "seconds": {"decode": 2.0, "embed": 6.0},
        "timings": {
            "decode": {"number": 20, "mean_ms": 100.0, "longest_ms": 500.0, "from_s": 0.5, "to_s": 3.0},
            "embed": {"number": 20, "mean_ms": 300.0, "longest_ms": 750.0, "from_s": 1.0, "to_s": 3.25},
        },
        "elapsed_seconds": 3.5,
        "images_per_second": 5.7,
        "verdict": "model-bound: the model took 6.0 s",
        "phases": {"start_up": 0.5, "list": 0.1, "compare": 0.0, "digest": 0.0, "work": 2.5, "finish": 0.4},
        "device": "CPU",
        "speed": {"from_s": 1.0, "span_s": 0.25, "images": [2, 5, 8, 5]},
    } | changes


def facts(**changes) -> RunFacts:
    """Returns the facts of that run, without a run before it."""
    failures = (
        FailedImage(
            f"/photos/{HOSTILE}".encode(), "decode", "CorruptImage", f"truncated {HOSTILE}", False, PICTURES[0]
        ),
        FailedImage(b"/photos/caf\xe9.jpg", "decode", "CorruptImage", "broken", False),
        FailedImage(b"/photos/late.jpg", "read", "OSError", "connection reset by peer", True),
    )
    whole = RunFacts(
        report(),
        sample(),
        failures,
        command="python run_pipeline.py --input '/photos/*.jpg' --output vectors",
        retry="python run_pipeline.py --retry_failed --output vectors",
        failure_files="vectors/failures/20261128T224954Z-998d1cf586dd/part-*.jsonl",
    )
    return dataclasses.replace(whole, **changes)
