"""pipeline.commands.verify.report_file: a report that a run writes is believed, and one that cannot be true is not."""

import json

import pytest

from pipeline.commands.verify import report_file
from tests.helpers.reporting import compose


@pytest.fixture(scope="module")
def content(model) -> bytes:
    return compose(model).to_json().encode()


@pytest.fixture
def fields(content) -> dict:
    return json.loads(content)


def test_a_report_of_the_writer(content):
    fields = report_file.parse(content)
    assert list(report_file.damage(content, fields)) == []
    assert list(report_file.contradictions(fields, "r")) == []


def test_a_report_of_a_run_without_images(model):
    nothing = compose(
        model, counted=dict.fromkeys(("listed", *report_file.COUNTS, "tfrecord", "lines"), 0), failures={}, times=[]
    )
    fields = report_file.parse(nothing.to_json().encode())
    assert list(report_file.contradictions(fields, "r")) == []


def test_the_checksum_as_the_documents_define_it(fields):
    import hashlib

    stored = fields.pop("checksum")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == stored


def test_another_form_of_the_same_content_is_damage(content, fields):
    for other in (json.dumps(fields), json.dumps(fields, indent=2), content.decode().replace("  ", "\t", 1)):
        assert list(report_file.damage(other.encode(), report_file.parse(other.encode()))) == [
            "not in the form in which a run writes it"
        ]


def test_a_checksum_that_does_not_match(fields):
    fields["verdict"] += "!"
    changed = (json.dumps(fields, indent=2) + "\n").encode()
    assert list(report_file.damage(changed, fields)) == ["the checksum does not match"]
    del fields["checksum"]
    changed = (json.dumps(fields, indent=2) + "\n").encode()
    assert list(report_file.damage(changed, fields)) == [
        "no checksum: expected the field `checksum`, as every run writes it"
    ]


@pytest.mark.parametrize(
    ("change", "contradiction"),
    [
        ({"run_id": "other"}, "it is of the run 'other'"),
        ({"elapsed_seconds": 3.6}, "3.6 seconds elapsed from"),
        ({"images_per_second": 2.1}, "2.1 images per second, with 7 images embedded in 3.5 seconds"),
        ({"phases": {"work": 3.4}}, "the phases add up to 3.400 seconds, 3.5 elapsed"),
        ({"seconds": {"decode": 2.0}}, "seconds of the stages decode, and timings of decode, embed"),
        ({"seconds": {"decode": 2.1, "embed": 6.0}}, "2.1 seconds of decode, and 10 times 200.0 ms"),
        ({"failures": {"decode": {"CorruptImage": 4}}}, "3 images failed, and by error 4"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_numbers_that_contradict_each_other(fields, change, contradiction):
    first, *_ = report_file.contradictions(fields | change, "r")
    assert first.startswith(contradiction)


def test_an_equation_that_does_not_hold(fields):
    fields["counts"]["skipped"] += 1
    (contradiction,) = report_file.contradictions(fields, "r")
    assert contradiction == "20 images are listed, and their outcomes add up to 21"


def test_a_stage_whose_times_contradict_each_other(fields):
    fields["timings"]["decode"]["longest_ms"] = 199.0
    (contradiction,) = report_file.contradictions(fields, "r")
    assert contradiction.startswith("the times of decode contradict each other")


def test_fields_that_are_missing(fields):
    for name in [name for name in fields if name not in ("checksum", *report_file._LATER_FIELDS)]:
        rest = {other: value for other, value in fields.items() if other != name}
        with pytest.raises(report_file.Invalid, match=f"no field {name}"):
            report_file.parse(json.dumps(rest).encode())


@pytest.mark.parametrize("value", [None, True, -1, "x", [], [1], {"x": None}, {"x": {"x": -1}}, 1e999], ids=repr)
def test_fields_of_another_type(fields, value):
    """Every field refuses most of these values; whatever is let through does not break what reads the report."""
    for name in fields:
        try:
            parsed = report_file.parse(json.dumps(fields | {name: value}).encode())
        except report_file.Invalid as error:
            assert f"the field {name} has another type or form" in str(error)
        else:
            list(report_file.contradictions(parsed, "r"))


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"null", b"[" * 100_000, b'{"run_id": 1' + b"0" * 5000 + b"}"]
)
def test_what_is_no_report_is_refused(content):
    with pytest.raises(report_file.Invalid):
        report_file.parse(content)


def test_a_report_of_a_later_version_may_have_more(fields):
    assert report_file.parse(json.dumps(fields | {"more": [1]}).encode())["more"] == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"elapsed_seconds": 10**400},
        {"elapsed_seconds": 1e308},
        {"phases": {"a": 1.7e308, "b": 1.7e308}},
        {"verdict": "half a pair \ud800"},
    ],
    ids=["no float", "large float", "overflowing sum", "no text"],
)
def test_values_that_nothing_can_be_computed_with(fields, change):
    with pytest.raises(report_file.Invalid, match="has another type or form than expected"):
        report_file.parse(json.dumps(fields | change).encode())


@pytest.mark.parametrize("change", [{"digest": int("1" * 64)}, {"name": "\ud800"}], ids=["number", "half a pair"])
def test_a_model_that_is_none(fields, change):
    fields["model"] |= change
    with pytest.raises(report_file.Invalid, match="the field model has another type or form than expected"):
        report_file.parse(json.dumps(fields).encode())


def test_names_that_are_not_utf_8_are_names(fields):
    fields["model"]["name"] = "/models/caf\udce9"
    assert report_file.parse(json.dumps(fields).encode())["model"]["name"] == "/models/caf\udce9"


@pytest.mark.parametrize(
    ("change", "contradiction"),
    [
        ({"attempts": {"2026-01-01T00:00:00.000+00:00": 13}}, "14 vectors, and 13 of all attempts"),
        ({"elapsed_seconds": 3.503}, "3.503 seconds elapsed from"),
        ({"images_per_second": 2.01}, "2.01 images per second, with 7 images embedded in 3.5 seconds"),
        ({"images_per_second": 1.99}, "1.99 images per second, with 7 images embedded in 3.5 seconds"),
        ({"phases": {"work": 3.503}}, "the phases add up to 3.503 seconds, 3.5 elapsed"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_small_contradictions(fields, change, contradiction):
    first, *_ = report_file.contradictions(fields | change, "r")
    assert first.startswith(contradiction)


@pytest.mark.parametrize(
    "change",
    [{"elapsed_seconds": 3.501}, {"images_per_second": 2.001}, {"phases": {"work": 3.501}}],
    ids=repr,
)
def test_what_is_rounded_contradicts_nothing(fields, change):
    assert list(report_file.contradictions(fields | change, "r")) == []


def test_the_speed_is_that_of_the_last_attempt(fields):
    two = {"2026-01-01T00:00:00.000+00:00": 12, "2026-01-02T00:00:00.000+00:00": 2}
    assert list(report_file.contradictions(fields | {"images_per_second": 0.5, "attempts": two}, "r")) == []


def test_a_stage_that_ends_before_it_begins(fields):
    fields["timings"]["decode"] |= {"from_s": 3.0, "to_s": 2.999}
    (contradiction,) = report_file.contradictions(fields, "r")
    assert contradiction.startswith("the times of decode contradict each other")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model", {"dimension": 0}),
        ("model", {"digest": "D" * 64}),
        ("model", {"image_size": [224]}),
        ("model", {"image_size": [224, -1]}),
        ("model", {"tags": ["\ud800"]}),
        ("model", {"output": 7}),
        ("counts", {"skipped": 2**63}),
        ("counts", {"skipped": True}),
        ("speed", {"images": [1.5]}),
        ("speed", {"span_s": None}),
    ],
    ids=repr,
)
def test_a_part_of_another_form(fields, name, change):
    changed = fields | {name: fields[name] | change}
    with pytest.raises(report_file.Invalid, match=f"the field {name} has another type or form than expected"):
        report_file.parse(json.dumps(changed).encode())


@pytest.mark.parametrize(
    "change",
    [{"output_formats": ["csv"]}, {"vector_type": "float64"}, {"started_at": "2026-01-01T00:00:00"}, {"counts": {}}],
    ids=repr,
)
def test_a_field_of_a_value_that_there_is_not(fields, change):
    with pytest.raises(report_file.Invalid, match=f"the field {next(iter(change))} has another type or form"):
        report_file.parse(json.dumps(fields | change).encode())
