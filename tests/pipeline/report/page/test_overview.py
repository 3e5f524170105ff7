"""The top of the page."""

import pytest

from pipeline.report.page.concerns import Concern
from pipeline.report.page.overview import duration, header, headline, warnings
from tests.helpers import run_facts


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "No image was listed."),
        ({"embedded": 1}, "The image has its vector."),
        ({"skipped": 1}, "The image had its vector."),
        ({"failed": 1}, "The image failed."),
        ({"embedded": 1500, "reused": 20}, "All 1,520 images have their vectors."),
        ({"embedded": 9, "failed": 1}, "9 of 10 images got a vector, and 1 failed."),
        ({"embedded": 1, "skipped": 9}, "1 of 10 images got a vector, 9 had one already, and none failed."),
        ({"failed": 2, "skipped": 8}, "0 of 10 images got a vector, 8 had one already, and 2 failed."),
    ],
    ids=str,
)
def test_one_sentence_says_what_became_of_the_images(counts, sentence):
    counts = dict.fromkeys(("embedded", "reused", "duplicate", "failed", "skipped"), 0) | counts
    assert headline({"listed": sum(counts.values())} | counts) == sentence


def test_the_counts_add_up():
    shown = header(run_facts.report())
    assert "30 listed = 20 embedded + 4 reused + 1 duplicate + 2 skipped + 3 failed" in shown
    assert "Model-bound: the model took 6.0 s." in shown


@pytest.mark.parametrize(("seconds", "text"), [(8.25, "8.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_rounded_to_what_people_read(seconds, text):
    assert duration(seconds) == text


def test_warnings_or_what_was_checked():
    assert "<h3>Drift &lt;b&gt;</h3><p>by 3</p>" in warnings([Concern("Drift <b>", "by 3")], ["calm"])
    assert "calm" in warnings([], ["calm"]) and "No warnings" in warnings([], ["calm"])


def test_whatever_a_report_says_stays_text():
    hostile = "<script>1</script>"
    report = run_facts.report(run_id=hostile, verdict=hostile, started_at=hostile)
    report["model"] = report["model"] | {"name": f"a/{hostile}"}
    shown = header(report)
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 3
    shown = warnings([Concern(hostile, hostile)], []) + warnings([], [hostile])
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (99.94, "99.9 s"), (100, "1 min 40 s"), (5999, "99 min 59 s"), (6000, "1 h 40 min")],
)
def test_durations_at_their_borders(seconds, text):
    assert duration(seconds) == text
