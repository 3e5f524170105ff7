"""The phases of a run, from constructed times."""

import math

import pytest

from pipeline.report.phases import phases
from transforms.elements.records import StageSeconds


def busy(seconds, started, ended, items=1000):
    return StageSeconds("", "", items, seconds, longest=0.0, calls=items, started=started, ended=ended)


def test_phases_add_up():
    stages = {
        "list": busy(9.0, 3.0, 5.0),
        "digest": busy(9.0, 5.5, 9.5),
        "decode": busy(9.0, 14.0, 70.0),
        "embed": busy(9.0, 15.0, 72.0),
        "write": busy(9.0, 15.0, 74.0),
    }
    assert phases(stages, 75.0) == {
        "start_up": 3.0,
        "list": 2.0,
        "compare": 5.0,
        "digest": 4.0,
        "work": 58.0,
        "finish": 3.0,
    }
    stages["load"] = busy(33.0, 12.5, 16.0, items=11)
    with_loading = phases(stages, 75.0)
    assert (with_loading["start_up"], with_loading["compare"], with_loading["work"]) == (6.0, 5.0, 55.0)


@pytest.mark.parametrize(
    "stages",
    [
        {},
        {"list": busy(1.0, -0.2, 0.1)},
        {"list": busy(1.0, 9.0, 12.0)},
        {"list": busy(1.0, 1.0, 8.0), "embed": busy(1.0, 4.0, 9.0)},
        {"list": busy(1.0, 1.0, 8.0), "digest": busy(1.0, 2.0, 6.0), "read": busy(1.0, 7.0, 9.0)},
        {"digest": busy(1.0, 9.0, 12.0), "embed": busy(1.0, 4.0, 5.0)},
        {"embed": busy(1.0, -0.5, -0.1)},
        {"embed": busy(1.0, 12.0, 15.0)},
        {"load": busy(99.0, 1.0, 2.0, items=1), "embed": busy(1.0, 2.0, 3.0)},
    ],
    ids=["nothing", "early", "late", "at once", "nested", "digests later", "embed early", "embed late", "long load"],
)
def test_phases_add_up_where_clocks_differ_and_stages_overlap(stages):
    seconds = phases(stages, 10.0).values()
    assert math.isclose(sum(seconds), 10.0) and min(seconds) >= 0.0


def test_a_phase_ends_where_images_are_worked_on():
    stages = {"list": busy(1.0, 1.0, 8.0), "embed": busy(1.0, 4.0, 9.0)}
    assert phases(stages, 10.0) == {
        "start_up": 1.0,
        "list": 3.0,
        "compare": 0.0,
        "digest": 0.0,
        "work": 5.0,
        "finish": 1.0,
    }
