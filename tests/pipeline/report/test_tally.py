"""pipeline.report.tally: sums of counts, failures and times, whatever the order and the bundles."""

import pickle
from collections import Counter

import apache_beam as beam

from pipeline.report.tally import SumTallies, Tally
from tests.helpers.collecting import collect
from transforms.elements.records import Failure, LeftOut, Shard, StageSeconds

READ = StageSeconds.of("read", 0.5, ended=100.0)
LATER = StageSeconds.of("read", 2.0, ended=103.0)
ON_CPU = StageSeconds.of("embed", 0.25, calls=0.25, device="CPU", ended=105.0)
ON_GPU = StageSeconds.of("embed", 0.25, calls=0.25, device="GPU NVIDIA L4", ended=105.0)


def failure(stage, error):
    return Failure(b"a.jpg", stage, error, "", False)


def tally(counts=None, failures=(), times=(), origins=()):
    total = Tally(Counter(counts or {}))
    for origin in origins:
        total.add_origin(origin)
    for element in failures:
        total.add_failure(element)
    for time in times:
        total.add_time(time)
    return total


def test_failures_are_counted_by_stage_and_error():
    failures = [failure("read", "OSError"), failure("decode", "OSError"), failure("read", "OSError")]
    assert tally(failures=failures).failures == {("read", "OSError"): 2, ("decode", "OSError"): 1}


def test_times_are_summed_by_stage_and_device():
    assert tally(times=[READ, ON_CPU, LATER, ON_GPU]).times == {
        ("read", ""): StageSeconds("read", "", 2, 2.5, longest=2.0, calls=2.0, started=99.5, ended=103.0),
        ("embed", "CPU"): ON_CPU,
        ("embed", "GPU NVIDIA L4"): ON_GPU,
    }


FIRST, SECOND = ("20260101T020304.005Z", "embedded"), ("20260102T030405.006Z", "reused")


def test_a_vector_of_an_earlier_attempt_counts_under_its_outcome_there():
    total = tally({"embedded": 5}, origins=[FIRST, SECOND, FIRST])
    assert total.origins == {FIRST: 2, SECOND: 1}
    assert total.counts == {"embedded": 7, "reused": 1}


def test_merging_is_adding_everything_to_one_and_changes_no_part():
    first = tally({"listed": 2, "failed": 1}, [failure("read", "OSError")], [READ, ON_CPU], [FIRST])
    second = tally({"listed": 3, "pruned": 1}, [failure("read", "OSError"), failure("read", "ValueError")], [LATER])
    second.add_origin(FIRST)
    before = pickle.dumps((first, second))
    expected = tally(
        {"listed": 5, "failed": 1, "pruned": 1},
        [failure("read", "OSError"), failure("read", "OSError"), failure("read", "ValueError")],
        [READ, LATER, ON_CPU],
        [FIRST, FIRST],
    )
    assert Tally.merge([first, second]) == Tally.merge(iter([second, first])) == expected
    assert Tally.merge([Tally.merge([]), first, Tally(), second]) == expected
    assert pickle.dumps((first, second)) == before


def summed(counted=(), failures=(), written=(), times=(), origins=None):
    """Returns the tallies that a pipeline makes of these elements."""

    def build(root):
        sums = SumTallies(
            [(name, root | f"Counted{i}" >> beam.Create(elements)) for i, (name, elements) in enumerate(counted)],
            root | "Failures" >> beam.Create(failures).with_output_types(Failure),
            [(name, root | f"Written{i}" >> beam.Create(shards)) for i, (name, shards) in enumerate(written)],
            [root | "Times" >> beam.Create(times).with_output_types(StageSeconds)],
            origins and root | "Origins" >> beam.Create(origins),
        )
        return {"tallies": root | sums}

    return collect(build)[0]["tallies"]


def test_a_pipeline_has_one_tally_of_all_its_bundles():
    tallies = summed(
        counted=[("listed", range(400)), ("embedded", range(300)), ("listed", range(12))],
        failures=[failure("read", "OSError")] * 90 + [failure("decode", "CorruptImage")] * 22,
        written=[("tfrecord", [Shard("a", 200), Shard("b", 100)]), ("lines", [Shard("c", 112)])],
        times=[READ] * 300 + [LATER],
        origins=[FIRST] * 7 + [SECOND],
    )
    (total,) = tallies
    assert total.origins == {FIRST: 7, SECOND: 1}
    assert total.counts == {"listed": 412, "embedded": 307, "reused": 1, "tfrecord": 300, "lines": 112, "shards": 2}
    assert total.failures == {("read", "OSError"): 90, ("decode", "CorruptImage"): 22}
    assert total.times == {
        ("read", ""): StageSeconds("read", "", 301, 152.0, longest=2.0, calls=301.0, started=99.5, ended=103.0)
    }


def test_a_pipeline_without_elements_has_nothing_to_sum():
    assert Tally.merge(summed()) == Tally()


def test_files_that_were_left_out_are_summed():
    first, second = tally(), tally()
    for total, number in ((first, 2), (first, 1), (second, 4)):
        total.add_left_out(LeftOut("other", ".txt", number))
    second.add_left_out(LeftOut("hidden", "._*", 1))
    assert Tally.merge([first, second]).left_out == {("other", ".txt"): 7, ("hidden", "._*"): 1}
    assert first.left_out == {("other", ".txt"): 3}
