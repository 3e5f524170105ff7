"""pipeline.report.verdict: every sentence from constructed measurements, and none that they do not support."""

import dataclasses

import pytest

from pipeline.report.verdict import Measured, verdict
from transforms.elements.records import StageSeconds

COUNTS = {"listed": 1000, "embedded": 1000, "reused": 0, "duplicate": 0, "failed": 0, "skipped": 0}


def busy(seconds, started, ended, items=1000, calls=None):
    calls = items if calls is None else calls
    return StageSeconds("", "", items, seconds, longest=0.0, calls=calls, started=started, ended=ended)


def run(seconds, *, counts=None, **changes):
    """A run of 100 s at work, after 8 s of starting and 2 s of listing, with these seconds by stage."""
    stages = {"list": busy(1.5, 5.0, 7.0, items=4)}
    for stage, total in seconds.items():
        stages[stage] = busy(total, 10.0, 110.0, calls=1000 / 30 if stage == "embed" else None)
    measurements = {
        "stages": stages,
        "elapsed": 112.0,
        "device": "CPU",
        "cores": 2,
        "batch_size": 32,
        "read_concurrency": 16,
        "precision": "float32",
    }
    return Measured(COUNTS | (counts or {}), **(measurements | changes))


def fed(threads, decoder, seconds, **changes):
    """A run of two threads for 100 s, of whose time they and the decoder kept cores busy for so many seconds."""
    measured = run(seconds | {"bundle": 200.0, "decode": seconds.get("decode", 0.0)}, **changes)
    for stage, core_seconds in (("bundle", threads), ("decode", decoder)):
        of_stage = {"core_seconds": core_seconds, "lock_seconds": core_seconds}
        measured.stages[stage] = dataclasses.replace(measured.stages[stage], **of_stage)
    return measured


GPU = {"device": "GPU NVIDIA L4", "cores": 8, "batch_size": 32}
TWICE = "twice the cores (for about twice the images a second)"
CASES = {
    "read": (
        run({"read": 120.0, "decode": 30.0, "embed": 40.0, "write": 10.0}),
        "read-bound: 60% of the threads' time went into waiting for files, 120.0 ms an image with "
        "--read_concurrency 16; --read_concurrency 40 or workers nearer to the storage would help",
    ),
    "read, no more at once": (
        run({"read": 190.0, "embed": 10.0}, read_concurrency=256),
        "read-bound: 95% of the threads' time went into waiting for files, 190.0 ms an image with "
        "--read_concurrency 256; workers nearer to the storage would help",
    ),
    "read, nothing but": (
        run({"read": 200.0, "embed": 1e-12}, read_concurrency=200),
        "read-bound: 100% of the threads' time went into waiting for files, 200.0 ms an image with "
        "--read_concurrency 200; --read_concurrency 256 or workers nearer to the storage would help",
    ),
    "shards": (
        run({"read": 120.0, "decode": 30.0, "embed": 50.0}, read_concurrency=None),
        "read-bound: 60% of the threads' time went into waiting for files, 120.0 ms an image; "
        "workers nearer to the storage would help",
    ),
    "decode": (
        run({"read": 5.0, "decode": 110.0, "embed": 80.0, "write": 5.0}),
        "decode-bound: 55% of the threads' time went into decoding, 110.0 ms an image; " + TWICE + " would help",
    ),
    "decode for a GPU": (
        run({"read": 20.0, "decode": 700.0, "embed": 55.0, "wait": 5.0}, **GPU),
        "decode-bound: an image takes 700.0 ms of a core and 55.0 ms of the GPU; 13 cores for each GPU would keep it "
        "busy, 5 more than now",
    ),
    "decode for a GPU that is nearly busy": (
        run({"read": 20.0, "decode": 600.0, "embed": 90.0, "wait": 60.0}, **GPU),
        "decode-bound: an image takes 600.0 ms of a core and 90.0 ms of the GPU; 9 cores for each GPU would keep it "
        "busy, 1 more than now",
    ),
    "embed on a CPU": (
        run({"read": 5.0, "decode": 30.0, "embed": 156.0, "write": 9.0}),
        "embed-bound: 78% of the threads' time went into the model, 156.0 ms an image on the CPU; " + TWICE + ", "
        "--precision auto where the hardware has bfloat16, a GPU or a smaller --model would help",
    ),
    "embed in bfloat16": (
        run({"decode": 50.0, "embed": 150.0}, precision="bfloat16"),
        "embed-bound: 75% of the threads' time went into the model, 150.0 ms an image on the CPU; " + TWICE + ", "
        "a GPU or a smaller --model would help",
    ),
    "embed on nobody knows what": (
        run({"decode": 50.0, "embed": 150.0}, precision="bfloat16", device=""),
        "embed-bound: 75% of the threads' time went into the model, 150.0 ms an image; " + TWICE + " or a smaller "
        "--model would help",
    ),
    "waiting for a CPU": (
        run({"decode": 90.0, "embed": 60.0, "wait": 50.0}),
        "embed-bound: 55% of the threads' time went into the model or into waiting for its turn, 60.0 ms an image on "
        "the CPU; " + TWICE + ", --precision auto where the hardware has bfloat16, a GPU or a smaller --model would "
        "help",
    ),
    "embed on a GPU": (
        run({"decode": 300.0, "embed": 95.0, "wait": 405.0}, precision="auto", **GPU),
        "embed-bound: 62% of the threads' time went into the model or into waiting for its turn, 95.0 ms an image on "
        "the GPU; a --batch_size above 32 or more GPUs would help, more cores would not",
    ),
    "waiting for a GPU beside much decoding": (
        run({"decode": 500.0, "embed": 98.0, "wait": 202.0}, **GPU),
        "embed-bound: 38% of the threads' time went into the model or into waiting for its turn, 98.0 ms an image on "
        "the GPU; a --batch_size above 32, --precision auto where the hardware has bfloat16 or more GPUs would help, "
        "more cores would not",
    ),
    "embed on a GPU in batches that are not full": (
        run({"decode": 30.0, "embed": 90.0}, precision="bfloat16", **(GPU | {"batch_size": 64})),
        "embed-bound: 75% of the threads' time went into the model, 90.0 ms an image on the GPU; more GPUs would help",
    ),
    "embed on a GPU in batches that are full to 70 %": (
        run({"decode": 30.0, "embed": 90.0}, precision="bfloat16", **(GPU | {"batch_size": 43})),
        "embed-bound: 75% of the threads' time went into the model, 90.0 ms an image on the GPU; more GPUs would help",
    ),
    "embed on a GPU in batches that are full to 91 %": (
        run({"decode": 30.0, "embed": 90.0}, precision="bfloat16", **(GPU | {"batch_size": 33})),
        "embed-bound: 75% of the threads' time went into the model, 90.0 ms an image on the GPU; a --batch_size above "
        "33 or more GPUs would help",
    ),
    "write": (
        run({"decode": 30.0, "embed": 40.0, "write": 130.0}),
        "write-bound: 65% of the threads' time went into writing, 130.0 ms an image; an --output that is faster or "
        "nearer to the workers would help",
    ),
    "runner": (
        run({"decode": 10.0, "embed": 30.0, "write": 5.0}),
        "runner-bound: the stages were busy for 45.0 s of the 1.7 min between reading the first image and the model's "
        "last call; the runner spent the rest",
    ),
    "start-up": (
        run({"embed": 5.0}, stages={"list": busy(0.1, 3.0, 3.1), "embed": busy(0.9, 6.0, 6.9)}, elapsed=8.5),
        "start-up-bound: 3.0 s of 8.5 s went into starting and loading the model; more images in one run would share "
        "it",
    ),
    "loading": (
        run(
            {},
            stages={
                "read": busy(0.1, 4.0, 9.8),
                "decode": busy(1.4, 4.1, 9.9),
                "load": busy(8.4, 5.0, 9.2, items=2),
                "embed": busy(1.8, 9.2, 10.1),
            },
            elapsed=10.5,
        ),
        "start-up-bound: 8.2 s of 10.5 s went into starting and loading the model; more images in one run would share "
        "it",
    ),
    "decoding before the first batch is full": (
        run(
            {},
            stages={
                "read": busy(0.1, 4.0, 13.0),
                "decode": busy(18.0, 4.1, 13.1),
                "embed": busy(0.9, 13.1, 13.5),
            },
            elapsed=14.0,
        ),
        "decode-bound: 95% of the threads' time went into decoding, 18.0 ms an image; " + TWICE + " would help",
    ),
    "list": (
        run({}, stages={"list": busy(900.0, 10.0, 460.0), "embed": busy(200.0, 470.0, 570.0)}, elapsed=580.0),
        "list-bound: 7.5 min of 9.7 min went into listing; a narrower --input, or --input_format list, would help",
    ),
    "digests": (
        run(
            {},
            stages={
                "list": busy(1.0, 4.0, 5.0),
                "digest": busy(99.0, 5.5, 65.5),
                "read": busy(9.0, 66.0, 90.0),
                "embed": busy(40.0, 70.0, 90.0),
            },
            elapsed=91.0,
        ),
        "digest-bound: 60.0 s of 91.0 s went into reading files to find equal ones; --read_concurrency 32 or workers "
        "nearer to the storage would help",
    ),
    "joins": (
        run({}, stages={"list": busy(1.0, 4.0, 5.0), "embed": busy(40.0, 65.0, 90.0)}, elapsed=91.0),
        "compare-bound: 60.0 s of 91.0 s went into comparing the images with earlier runs and each other; a runner "
        "with more workers would help",
    ),
    "finish": (
        run({}, stages={"embed": busy(3.0, 6.0, 8.0)}, elapsed=20.0),
        "finish-bound: 12.0 s of 20.0 s passed after the model's last call; more images in one run would share it",
    ),
    "nothing new": (
        run(
            {},
            counts={"embedded": 0, "skipped": 990, "reused": 10},
            stages={"list": busy(0.4, 2.0, 2.5)},
            elapsed=4.0,
        ),
        "nothing to embed: 990 skipped, 10 reused; 2.0 s of 4.0 s went into starting",
    ),
    "nothing new in a large bucket": (
        run({}, counts={"embedded": 0, "skipped": 1000}, stages={"list": busy(99.0, 5.0, 305.0)}, elapsed=330.0),
        "nothing to embed: 1000 skipped; 5.0 min of 5.5 min went into listing",
    ),
    "all failed": (
        run(
            {},
            counts={"embedded": 0, "failed": 1000},
            stages={"list": busy(0.4, 2.0, 2.5), "read": busy(60.0, 3.0, 33.0)},
            elapsed=34.0,
        ),
        "nothing to embed: 1000 failed; 30.0 s of 34.0 s went into reading",
    ),
    "the lock": (
        # Two threads: 50 s in the decoder, 20 s in the model, and 130 s in Python or waiting for its lock.
        fed(140.0, 50.0, {"read": 0.0, "decode": 90.0, "embed": 20.0}, **GPU),
        "lock-bound: 65% of the threads' time went into Python, or into waiting for its lock, which an image takes for "
        "90.00 ms; --decode_processes cores would help",
    ),
    "the lock, with processes": (
        fed(95.0, 400.0, {"decode": 400.0, "wait_decode": 30.0, "embed": 20.0}, decodes_in_processes=True, **GPU),
        "lock-bound: 75% of the threads' time went into Python, or into waiting for its lock, which an image takes for "
        "95.00 ms; more worker processes would help",
    ),
    "decoder processes": (
        fed(50.0, 700.0, {"decode": 700.0, "wait_decode": 120.0, "embed": 55.0}, decodes_in_processes=True, **GPU),
        "decode-bound: an image takes 700.0 ms of a core and 55.0 ms of the GPU; 13 cores for each GPU would keep it "
        "busy, 5 more than now",
    ),
    "decoder processes, on a CPU": (
        fed(50.0, 140.0, {"decode": 180.0, "wait_decode": 120.0, "embed": 55.0}, decodes_in_processes=True),
        "decode-bound: 60% of the threads' time went into waiting for the decoder processes, 180.0 ms an image; "
        + TWICE
        + " would help",
    ),
    "a lock that was free": (
        # The rest of 100 s is none of the lock's: an image takes it for 10 ms of the 100 that each lasted.
        fed(60.0, 50.0, {"read": 0.0, "decode": 60.0, "embed": 40.0}),
        "decode-bound: 25% of the threads' time went into decoding, 60.0 ms an image; " + TWICE + " would help",
    ),
    "nothing at all": (
        run({}, counts=dict.fromkeys(COUNTS, 0), stages={}, elapsed=3.5),
        "nothing to embed: no image was listed; 3.5 s of 3.5 s went into starting",
    ),
}


@pytest.mark.parametrize(("measured", "sentence"), CASES.values(), ids=CASES)
def test_one_sentence_with_the_numbers_of_the_run(measured, sentence):
    assert verdict(measured) == sentence


@pytest.mark.parametrize(("wait", "limit"), [(40.0, "read-bound"), (41.0, "embed-bound")])
def test_a_model_that_threads_wait_for_longer_than_it_works_is_always_busy(wait, limit):
    assert verdict(run({"read": 120.0, "embed": 40.0, "wait": wait})).startswith(limit)


@pytest.mark.parametrize(("lock", "is_limit"), [(15.0, False), (25.0, True)])
def test_a_lock_is_a_limit_from_a_fifth_of_the_images_on_that_it_lets_pass(lock, is_limit):
    measured = fed(50.0 + lock, 50.0, {"read": 1.0, "decode": 50.0, "embed": 20.0})
    assert verdict(measured).startswith("lock-bound") is is_limit
