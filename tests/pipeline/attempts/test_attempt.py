"""pipeline.attempts.attempt: which report and which parts are whose, and when those of other attempts go."""

import dataclasses
import datetime
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.attempts import attempt
from pipeline.flags import options
from transforms.decoders import journal
from transforms.elements.records import ImageRef
from transforms.output.parts import Label
from transforms.storage import contested, files

OWN = datetime.datetime(2026, 11, 21, 1, 2, 3, 456789, datetime.UTC)


@pytest.fixture
def config(tmp_path, monkeypatch):
    config, _ = options.parse(["--output", str(tmp_path), "--run_id", "r"])
    object.__setattr__(config, "started_at", OWN)
    (tmp_path / "runs").mkdir()
    return config


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        (json.dumps({"started_at": "2026-11-21T01:02:03.456+00:00"}), True),
        (json.dumps({"started_at": "2026-11-21T01:02:03.455+00:00"}), False),
        (
            json.dumps({"started_at": "2027-01-01T00:00:00.000+00:00"}),
            True,
        ),  # a bundle of an attempt that was killed wakes up
        ('{"started_at": "2026-11-21T01:02:0', False),
        ("[]", False),
        ("[" * 10**5, False),
        (json.dumps({"attempt": "6", "started_at": "2027-01-01T00:00:00.000+00:00"}), True),
    ],
    ids=[
        *("its own", "an earlier one's", "a later one's", "half of one", "no report", "nested without end"),
        "a number that is none",
    ],
)
def test_only_the_report_of_an_earlier_attempt_goes(config, tmp_path, content, stays):
    place, sibling = tmp_path / "runs" / "r.json", tmp_path / "runs" / "r2.json"
    place.write_text(content)
    sibling.write_text(content)
    own = pickle.loads(pickle.dumps(attempt.of(config)))  # noqa: S301 - made here
    own.retire()
    own.retire()  # as a bundle that runs twice does
    assert place.exists() is stays and sibling.exists()


def test_where_there_is_no_report_nothing_is_done(config, tmp_path):
    attempt.of(config).retire()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_report_that_cannot_be_removed_stops_the_job(config, tmp_path, monkeypatch):
    (tmp_path / "runs" / "r.json").write_text("{}")
    monkeypatch.setattr(files, "remove_in_state", lambda path, state: None)
    with pytest.raises(OSError, match=r"runs/r.json cannot be removed: it is the report of an earlier run"):
        attempt.of(config).retire()


def test_a_run_without_files_has_no_report_to_retire(config):
    dataclasses.replace(attempt.of(config), output=None).retire()


def test_a_run_without_files_checks_its_claim_too(config, tmp_path):
    own, _ = claimed(config, tmp_path, LATER)
    with pytest.raises(contested.Lost):
        dataclasses.replace(own, output=None).retire()


def test_which_attempt_wrote_a_report(config):
    own, later = (
        SimpleNamespace(attempt=number, started_at=f"2026-11-21T01:02:0{second}.456+00:00")
        for number, second in ((2, 3), (3, 4))
    )
    assert attempt.wrote(config, own) and not attempt.wrote(config, later)
    assert attempt.label_of(own) == "n00000002_20261121T010203.456Z"


def test_labels_are_in_the_order_of_the_attempts(config):
    own = attempt.of(config)
    assert own.label == "20261121T010203.456Z"
    moments = [datetime.timedelta(milliseconds=1), datetime.timedelta(seconds=1), datetime.timedelta(days=400)]
    later = [dataclasses.replace(own, started_at=OWN + moment).label for moment in moments]
    assert sorted([*later[::-1], own.label]) == [own.label, *later]
    assert own.labels(("embedded", "failed")) == (Label(own.label, "embedded"), Label(own.label, "failed"))


def test_where_the_parts_of_a_run_lie(config):
    own = attempt.of(config)
    assert own.vectors == f"{config.output}/embeddings/r"
    without_files = dataclasses.replace(config, output=None, output_table="p.d.t")
    assert attempt.of(without_files, "gs://b/tmp").vectors == "gs://b/tmp/p.d.t/embeddings/r"


def write(path, content=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


EARLIER, LATER = "20261121T010203.455Z", "20261121T010203.457Z"


@pytest.fixture
def parts(config, tmp_path):
    """Parts of three attempts, by their names, and a stray file."""
    own = attempt.of(config).label
    names = [f"{label}-{outcome}-0.tfrecord" for label in (EARLIER, own, LATER) for outcome in ("embedded", "resumed")]
    names.append("stray.tfrecord")
    return {name: write(tmp_path / "embeddings" / "r" / ".parts" / name) for name in names}


def test_only_parts_that_earlier_attempts_have_embedded_are_read(config, parts):
    assert list(attempt.of(config).earlier_parts()) == [str(parts[f"{EARLIER}-embedded-0.tfrecord"])]
    another = dataclasses.replace(config, run_id="another")
    assert list(attempt.of(another).earlier_parts()) == []


def claimed(config, tmp_path, label=None):
    """Returns an attempt with a claim on the disk, which is that of the attempt `label`."""
    path = write(tmp_path / "runs" / "r.unfinished", json.dumps({"attempt": label or attempt.of(config).label}))
    return dataclasses.replace(attempt.of(config), claim=str(path)), path


def test_a_run_that_is_finished_leaves_no_part_and_no_claim(config, tmp_path, parts):
    own, claim = claimed(config, tmp_path)
    failed = write(tmp_path / "failures" / "r" / ".parts" / f"{EARLIER}-failed-0.jsonl")
    for _ in range(2):  # as a bundle that runs twice does
        own.finish()
        assert {name for name, path in parts.items() if path.exists()} == {name for name in parts if LATER in name}
        assert not claim.exists() and not failed.exists()


def test_an_attempt_without_a_claim_leaves_no_part_either(config, parts):
    attempt.of(config).finish()
    assert {name for name, path in parts.items() if path.exists()} == {name for name in parts if LATER in name}


def test_the_claim_of_another_attempt_stays(config, tmp_path):
    own, claim = claimed(config, tmp_path, LATER)
    own.finish()
    assert claim.exists()
    with pytest.raises(
        OSError, match="^run_id='r': the claim .*/r.unfinished is not this attempt's any more, so it names"
    ):
        own.check_claim()


def test_an_attempt_checks_its_claim(config, tmp_path):
    own, claim = claimed(config, tmp_path)
    own.check_claim()
    attempt.of(config).check_claim()  # one that holds none
    claim.unlink()
    with pytest.raises(OSError, match="is not this attempt's any more"):
        own.check_claim()
    # A runner repeats the last step of a run that is complete, and that has removed its claim.
    write(tmp_path / "runs" / "r.json", json.dumps({"started_at": "2026-11-21T01:02:03.456+00:00"}))
    own.check_claim()


def test_a_claim_that_is_lost_in_between_is_left(config, tmp_path, monkeypatch):
    own, claim = claimed(config, tmp_path)
    read, of_another = contested.read, json.dumps({"attempt": LATER})

    def read_and_lose(path):
        present = read(path)
        claim.write_text(of_another)
        return present

    monkeypatch.setattr(contested, "read", read_and_lose)
    own.finish()
    assert claim.read_text() == of_another


def test_a_claim_that_shows_a_sign_of_life_in_between_goes(config, tmp_path, monkeypatch):
    own, path = claimed(config, tmp_path)
    remove = contested.remove

    def after_a_beat(claim, state):
        monkeypatch.setattr(contested, "remove", remove)
        present = contested.read(claim)
        contested.write(claim, present.content + b" ", present.state)
        remove(claim, state)

    monkeypatch.setattr(contested, "remove", after_a_beat)
    own.finish()
    assert contested.remove is remove and not path.exists()


_AT_WORK = []  # an image that is left here is never done


def journals(own, *keys, started_at=None, version="1"):
    """Leaves the journals of an attempt that died, one for each thread, which was at an image or (None) at none."""
    own = dataclasses.replace(own, started_at=started_at or own.started_at)
    for number, key in enumerate(keys):
        left = journal.Journal(f"{own.journals}{number}{journal.SUFFIX}")
        if key is None:
            with left.at(ImageRef(b"one that is done", "1")):
                pass
        else:
            _AT_WORK.append(left.at(ImageRef(key, version)))
            _AT_WORK[-1].__enter__()


def test_deaths_are_counted_once_an_attempt(config, parts):
    own = attempt.of(config)
    for seconds in (3, 2, 1):
        began = OWN - datetime.timedelta(seconds=seconds)
        journals(own, b"/a.jpg", b"/a.jpg", None, *([b"/caf\xe9.jpg"] if seconds > 1 else []), started_at=began)
    journals(own, b"/own.jpg")
    journals(own, b"/later.jpg", started_at=OWN + datetime.timedelta(seconds=1))
    journals(own, b"/a.jpg", started_at=OWN - datetime.timedelta(seconds=4), version="0")
    assert own.deaths() == {b"1\0/a.jpg": 3, b"1\0/caf\xe9.jpg": 2, b"0\0/a.jpg": 1}
    assert list(own.earlier_parts()) == [str(parts[f"{EARLIER}-embedded-0.tfrecord"])]


def test_vectors_are_no_journals(config, parts, monkeypatch):
    journals(attempt.of(config), b"/a.jpg", started_at=OWN - datetime.timedelta(seconds=1))
    monkeypatch.setattr(journal, "read", lambda path: asked.append(Label.of(path).outcome))
    asked = []
    attempt.of(config).deaths()
    assert asked == ["decoding"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xff1\0/a.jpg"], ids=["empty", "half a length", "half a key"])
def test_a_journal_that_is_broken_off(config, content):
    own = dataclasses.replace(attempt.of(config), started_at=OWN - datetime.timedelta(seconds=1))
    journals(own, b"/a.jpg")
    (path,) = Path(own.vectors, ".parts").iterdir()
    path.write_bytes(content)
    assert attempt.of(config).deaths() == ({b"1\0/a.jpg": 1} if b"a" in content else {})


def test_in_a_bucket_there_are_no_journals(config):
    own = dataclasses.replace(attempt.of(config), place="gs://b/out")
    assert own.journals is None and own.deaths() == {}
    own.remove_journals()


def test_an_attempt_that_no_image_ends_removes_its_journals(config, parts):
    own = attempt.of(config)
    journals(own, b"/a.jpg", None)
    journals(own, b"/b.jpg", started_at=OWN - datetime.timedelta(seconds=1))
    own.remove_journals()
    assert own.deaths() == {b"1\0/b.jpg": 1}
    assert len(list(Path(own.vectors, ".parts").iterdir())) == len(parts) + 1


@pytest.mark.parametrize(
    ("started_at", "stays"), [("2026-11-21T01:02:03.455+00:00", False), ("2027-01-01T00:00:00.000+00:00", True)]
)
def test_the_page_of_a_run_goes_with_its_report(config, tmp_path, started_at, stays):
    report, page, statistics = (write(tmp_path / "runs" / f"r.{kind}") for kind in ("json", "html", "statistics"))
    other = write(tmp_path / "runs" / "r2.html")
    report.write_text(json.dumps({"started_at": started_at}))
    attempt.of(config).retire()
    assert (report.exists(), page.exists(), statistics.exists(), other.exists()) == (stays, stays, stays, True)


def test_a_page_goes_before_its_report_and_a_claim_after_all_parts(config, tmp_path, parts, monkeypatch):
    """Whatever is killed in between, no page is without a report, and no part without a claim."""
    own, claim = claimed(config, tmp_path)
    removed, remove_in_state = [], files.remove_in_state

    def spy(path, state):
        removed.append(Path(path).name)
        remove_in_state(path, state)

    def fail(self, after=None):
        raise OSError("no route to host")

    monkeypatch.setattr(files, "remove_in_state", spy)
    write(tmp_path / "runs" / "r.html")
    write(tmp_path / "runs" / "r.statistics")
    write(tmp_path / "runs" / "r.json", json.dumps({"started_at": "2020-01-01T00:00:00.000+00:00"}))
    own.retire()
    assert list(dict.fromkeys(removed)) == ["r.html", "r.statistics", "r.json"]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no route to host"):
        patch.setattr(attempt.Attempt, "remove_parts", fail)
        own.finish()
    assert claim.exists()


def test_a_report_that_cannot_be_read_is_not_taken_for_none(config, tmp_path, monkeypatch):
    report = write(tmp_path / "runs" / "r.json", "{}")

    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        attempt.of(config).retire()
    report.unlink()
    attempt.of(config).retire()


def test_parts_that_repeat_earlier_ones_are_removed(config, parts):
    attempt.of(config).remove_repetitions()
    assert {name for name, path in parts.items() if not path.exists()} == {f"{EARLIER}-resumed-0.tfrecord"}


def tree(root):
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def numbers(config, number, seconds=0):
    """Returns an attempt of a number, whose clock was off by some seconds."""
    return dataclasses.replace(attempt.of(config), number=number, started_at=OWN + datetime.timedelta(seconds=seconds))


def written_by(config, own):
    """Returns the report of an attempt, as far as other attempts read it."""
    return json.dumps({"attempt": own.number, "started_at": own.started_at.isoformat(timespec="milliseconds")})


def test_a_clock_that_is_behind_changes_nothing(config, tmp_path):
    """The second attempt runs on a machine whose clock is a day behind that of the first."""
    first, second = numbers(config, 1), numbers(config, 2, seconds=-86400)
    part = write(Path(first.vectors) / ".parts" / f"{Label(first.label, 'embedded')}0.tfrecord")
    assert list(second.earlier_parts()) == [str(part)] and list(first.earlier_parts()) == []
    place = write(tmp_path / "runs" / "r.json", written_by(config, first))
    assert (first.newest(), second.newest()) == (1, 1)
    second.retire()
    assert not place.exists()
    write(place, written_by(config, second))
    first.retire()
    assert place.exists()
    second.remove_parts(after=second.label)
    assert not part.exists()


def test_the_newest_attempt_is_that_of_any_part_or_of_the_report(config, tmp_path, parts):
    own = attempt.of(config)
    assert own.newest() == 0  # parts of earlier versions
    write(Path(own.vectors) / ".parts" / f"{Label(numbers(config, 3).label, 'resumed')}0.tfrecord")
    assert own.newest() == 3
    write(tmp_path / "failures" / "r" / ".parts" / f"{Label(numbers(config, 4).label, 'failed')}0.jsonl")
    assert own.newest() == 4
    write(tmp_path / "runs" / "r.json", written_by(config, numbers(config, 5)))
    assert own.newest() == 5
    write(tmp_path / "runs" / "r.json", '{"attempt": "6"')
    assert own.newest() == 4


def test_what_an_earlier_attempt_would_name_is_gone_once_the_run_is_taken_over(config, tmp_path):
    first, second = numbers(config, 1), numbers(config, 2)
    vectors, failed = Path(first.vectors), tmp_path / "failures" / "r"
    part = write(vectors / ".parts" / f"{Label(first.label, 'embedded')}0.tfrecord", "vectors")
    for path in (
        vectors / ".parts" / f"{Label(first.label, 'resumed')}1.tfrecord",
        failed / ".parts" / f"{Label(first.label, 'failed')}2.jsonl",
        *(tmp_path / "runs" / f".r.{kind}.{'0' * 32}" for kind in ("json", "html", "statistics")),
        vectors / f".part-00000-of-00001.tfrecord.{'0' * 32}",
        failed / f".part-00000-of-00001.jsonl.{'0' * 32}",
    ):
        write(path)
    kept = [write(tmp_path / "runs" / f".r2.json.{'0' * 32}"), write(vectors / "part-00000-of-00002.tfrecord", "old")]
    second.take_over()
    second.remove_repetitions()
    (renamed,) = second.earlier_parts()
    assert renamed != str(part) and Label.of(renamed) == (first.label, "embedded")
    assert tree(tmp_path) == {
        str(Path(path).relative_to(tmp_path)): Path(path).read_text() for path in (renamed, *kept)
    }
    assert Path(renamed).read_text() == "vectors"


def test_the_report_of_an_attempt_that_took_over_meanwhile_stays(config, tmp_path, monkeypatch):
    """The first attempt is stopped just before it removes the old report; the second completes the run meanwhile."""
    own, _ = claimed(config, tmp_path)
    place, page = tmp_path / "runs" / "r.json", write(tmp_path / "runs" / "r.html", "old")
    place.write_text(json.dumps({"started_at": "2020-01-01T00:00:00.000+00:00"}))
    remove = files.remove_in_state

    def wake_late(path, state):
        for each in (place, page):
            (tmp_path / "new").write_text("of the second")
            (tmp_path / "new").replace(each)
        remove(path, state)

    monkeypatch.setattr(files, "remove_in_state", wake_late)
    own.retire()
    assert (place.read_text(), page.read_text()) == ("of the second", "of the second")


def test_an_attempt_that_has_lost_its_claim_removes_no_report(config, tmp_path):
    own, _ = claimed(config, tmp_path, LATER)
    place = write(tmp_path / "runs" / "r.json", json.dumps({"started_at": "2020-01-01T00:00:00.000+00:00"}))
    with pytest.raises(contested.Lost, match="is not this attempt's any more"):
        own.retire()
    assert place.exists() and own.is_lost() and not attempt.of(config).is_lost()


def test_a_report_that_is_replaced_while_the_claim_is_looked_at_stays(config, tmp_path, monkeypatch):
    report = write(tmp_path / "runs" / "r.json", json.dumps({"started_at": "2020-01-01T00:00:00.000+00:00"}))
    monkeypatch.setattr(attempt.Attempt, "check_claim", lambda self: report.write_text("of a later attempt"))
    attempt.of(config).retire()
    assert report.read_text() == "of a later attempt"
