"""pipeline.attempts.attempt_label: the order of attempts, which no clock tells."""

import datetime

import pytest

from pipeline.attempts import attempt_label

START = datetime.datetime(2026, 11, 21, 1, 2, 3, 456789, datetime.UTC)
LATER = datetime.timedelta(days=400)


def test_labels_are_in_the_order_of_the_numbers_whatever_the_clocks_say():
    labels = [attempt_label.label(number, START - i * LATER) for i, number in enumerate((1, 2, 9, 10, 99_999_999))]
    assert labels == sorted(labels)
    # Earlier versions had none. Theirs come first, in the order of the starts.
    old = [attempt_label.label(0, START + moment) for moment in (-LATER, datetime.timedelta(milliseconds=1), LATER)]
    assert sorted([*labels, *old]) == [*old, *labels]


@pytest.mark.parametrize("number", [0, 1, 12_345_678])
def test_what_a_label_tells(number):
    label = attempt_label.label(number, START)
    assert attempt_label.number(label) == number and "-" not in label
    assert attempt_label.started_at(label) == "2026-11-21T01:02:03.456+00:00"
    assert attempt_label.of_report(number, "2026-11-21T01:02:03.456+00:00") == label


def test_milliseconds_have_three_digits_and_the_zone_is_utc():
    assert attempt_label.label(0, START.replace(microsecond=5000)).endswith("T010203.005Z")
    elsewhere = "2026-11-21T02:02:03.456+01:00"
    assert attempt_label.of_report(1, elsewhere) == attempt_label.label(1, START)


@pytest.mark.parametrize("text", ["", "x", "n00000001", "n1_20261121T010203.456Z", "n00000001_x"])
def test_other_texts_tell_nothing(text):
    assert attempt_label.started_at(text) == ""
    assert attempt_label.number(text) in (0, 1)


@pytest.mark.parametrize("started_at", [None, 7, "", "yesterday", []])
def test_a_report_without_a_start_is_of_no_attempt(started_at):
    assert attempt_label.of_report(1, started_at) == ""
