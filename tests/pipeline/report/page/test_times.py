"""The sections of time and settings."""

import re

from pipeline.report.page.times import settings, times
from tests.helpers import run_facts


def test_the_split_of_the_time_and_the_speed():
    section = times(run_facts.report())
    assert "starting 0.5 s, listing 0.1 s, reading, decoding, embedding 2.5 s, finishing 0.4 s" in section
    assert "comparing" not in section
    assert "32 images/s at best" in section and "<span>1.0 s</span>" in section and "<span>2.0 s</span>" in section
    assert section.index('"row">decode') < section.index('"row">embed')


def test_a_report_of_an_earlier_version_has_no_speed():
    section = times({key: value for key, value in run_facts.report().items() if key not in ("speed", "phases")})
    assert "Images per second" not in section and "What the run did" not in section and "decode" in section


def test_what_threads_do_for_a_block_has_no_time_of_an_image():
    timing = {"number": 20, "mean_ms": 25.0, "longest_ms": 70.0, "from_s": 0.5, "to_s": 1.0}
    timings = {"read": timing, "load": timing}
    section = times(run_facts.report(timings=timings, seconds={"read": 0.5, "load": 0.5}))
    assert "read</th><td>0.5 s</td><td>25.0 ms</td><td>70 ms</td>" in section
    assert "load</th><td>0.5 s</td><td>–</td><td>–</td>" in section
    assert "Images that share a call have equal parts of its time." in section


def test_the_first_run_has_no_earlier_ones_to_compare_with():
    """The phase compares its images with each other too."""
    phases = run_facts.report()["phases"] | {"compare": 0.2}
    section = times(run_facts.report(phases=phases))
    assert "comparing images 0.2 s" in section and "earlier" not in section


def test_settings_and_the_command():
    report = run_facts.report(inputs=[f"gs://bucket/{number}/*" for number in range(50)])
    section = settings(report, "python run_pipeline.py --input '<b>'")
    assert "<dd>32×32</dd>" in section and "and 30 more" in section and "&lt;b&gt;" in section
    assert "The same again" not in settings(report, "")


def test_stages_come_in_the_order_in_which_they_began():
    timing = {"number": 20, "mean_ms": 25.0, "longest_ms": 70.0, "to_s": 2.0}
    timings = {name: timing | {"from_s": began} for name, began in (("a", 1.5), ("b", 0.5), ("c", 1.0))}
    assert re.findall(r'<th scope="row">(\w)</th>', times(run_facts.report(timings=timings))) == ["b", "c", "a"]


def test_names_and_values_stay_text():
    hostile = "<script>1</script>"
    timing = {"number": 20, "mean_ms": 25.0, "longest_ms": 70.0, "from_s": 0.5, "to_s": 1.0}
    report = run_facts.report(
        timings={hostile: timing}, seconds={hostile: 1.0}, inputs=[hostile], device=hostile, model={hostile: hostile}
    )
    shown = times(report) + settings(report, hostile)
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 6


def test_a_speed_of_one_span_is_no_chart():
    speed = {"from_s": 1.0, "span_s": 0.25, "images": [2]}
    assert "Images per second" not in times(run_facts.report(speed=speed))
    assert "Images per second" in times(run_facts.report(speed=speed | {"images": [2, 3]}))
    assert "Images per second" not in times(run_facts.report(speed=speed | {"images": [2, 3], "span_s": 0.0}))


def test_twenty_inputs_are_shown_and_no_more_are_promised():
    for inputs, more in ((20, None), (21, "and 1 more")):
        section = settings(run_facts.report(inputs=[f"/{number}" for number in range(inputs)]), "")
        assert "<dd>/19</dd>" in section and "<dd>/20</dd>" not in section
        assert (more in section) if more else (" more" not in section)
