"""The report of a run of 3.5 s that never ran, from a tally made by hand."""

import datetime
from collections import Counter

from pipeline.flags import options
from pipeline.report import run_report
from pipeline.report.tally import Tally
from transforms.elements.records import StageSeconds

COUNTED = {
    "listed": 20,
    "embedded": 7,
    "reused": 4,
    "duplicate": 3,
    "failed": 3,
    "skipped": 3,
    "tfrecord": 14,
    "lines": 3,
    "shards": 2,
    "pruned": 5,
}
FAILURES = {("decode", "CorruptImage"): 2, ("read", "OSError"): 1}


def configured(*flags):
    return options.parse(["--run_id", "r", *flags])[0]


def compose(model, *flags, counted=None, failures=FAILURES, times=None, origins=None, left_out=None):
    config = configured(*flags)
    start = config.started_at.timestamp()
    if times is None:
        times = [
            StageSeconds("embed", "CPU", 12, 6.0, longest=0.75, calls=3.0, started=start + 1.0, ended=start + 3.25),
            StageSeconds("decode", "", 10, 2.0, longest=0.5, calls=10.0, started=start + 0.75, ended=start + 3.0),
        ]
    tally = Tally(Counter(COUNTED | (counted or {})), Counter(failures), origins=Counter(origins))
    tally.left_out.update(left_out or {})
    for time in times:
        tally.add_time(time)
    return run_report.compose(config, model, tally, config.started_at + datetime.timedelta(seconds=3.5))
