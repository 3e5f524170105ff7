"""transforms.output.shards: numbered, complete, and right after a retry."""

import functools
import io
import os
import time
import types
from pathlib import Path

import apache_beam as beam
import pytest

from tests.helpers.clocks import Clock
from tests.helpers.collecting import collect
from transforms.elements.records import Shard
from transforms.output import parts, shards
from transforms.output.parts import Framed, Label
from transforms.output.shards import WriteParts, WriteShards, name_parts, number, remove_parts, unnamed
from transforms.storage import contested, files


def lines(records):
    return [f"{record}\n".encode() for record in records]


def written(directory, *collections, before_naming=None, **options):
    """Writes records of several collections, and returns the shards that were reported."""
    write = WriteParts(str(directory), Framed(".txt", lines), **options)

    def build(root):
        records = tuple(root | f"Records{i}" >> beam.Create(each) for i, each in enumerate(collections))
        return records | WriteShards(write, before_naming)

    found, _ = collect(build)
    assert sum(shard.records for shard in found["shards"]) == sum(map(len, collections))
    assert {busy.stage for busy in found["seconds"]} == ({"write"} if any(collections) else set())
    return found["shards"]


def content(directory):
    return sorted(line for path in Path(directory).iterdir() for line in path.read_text().split())


def test_all_records_in_numbered_files_and_nothing_else(tmp_path):
    records = [str(i) for i in range(1000)]
    written(tmp_path / "d", records)
    names = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert names == [f"part-{i:05d}-of-{len(names):05d}.txt" for i in range(len(names))]
    assert content(tmp_path / "d") == sorted(records)


def test_several_collections_share_one_numbering(tmp_path):
    collections = [[f"{name}{i}" for i in range(100)] for name in "abc"]
    found = written(tmp_path / "d", *collections, [])
    names = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert names == [f"part-{i:05d}-of-{len(names):05d}.txt" for i in range(len(names))]
    assert sorted(shard.path for shard in found) == [str(tmp_path / "d" / name) for name in names]
    for shard in found:
        assert len(Path(shard.path).read_text().split()) == shard.records
    assert content(tmp_path / "d") == sorted(record for records in collections for record in records)


def test_parts_have_a_bounded_size(tmp_path):
    written(tmp_path / "d", ["x" * 99] * 1000, max_bytes=10_000)
    sizes = [path.stat().st_size for path in (tmp_path / "d").iterdir()]
    assert sum(sizes) == 100_000 and max(sizes) < 10_000 + 100 * parts._BATCH and len(sizes) >= 6


def parts_and_seconds(encode, records, max_bytes=2**20):
    """Writes one bundle to a bucket; returns its parts, and the seconds of each of its `StageSeconds`."""
    write = shards._WriteParts(WriteParts("gs://b/d", Framed(".txt", encode), max_bytes=max_bytes), None)
    write.start_bundle()
    closed, seconds = [], []
    for output in [output for record in records for output in write.process(record)]:
        if isinstance(output, beam.pvalue.TaggedOutput):
            seconds.append(output.value.seconds)
        else:
            closed.append(output)
    for output in write.finish_bundle():
        if isinstance(output, beam.pvalue.TaggedOutput):
            seconds.append(output.value.value.seconds)
        else:
            closed.append(output.value)
    return closed, seconds


@pytest.fixture
def unsaved(monkeypatch):
    """Lets no thread write what a test has added: the test alone decides when a record is written."""
    monkeypatch.setattr(parts, "_watch", lambda writer: None)


def test_parts_are_closed_when_they_are_full_and_not_before(unsaved, monkeypatch):
    monkeypatch.setattr(files, "create", lambda path: io.BytesIO())
    # Two batches of 64 records of 100 bytes reach 12,800 bytes.
    for bound in (6401, 12_800):
        closed, _ = parts_and_seconds(lines, ["x" * 99] * 300, bound)
        assert [part.records for part in closed] == [128, 128, 44]


def test_writing_takes_as_long_as_encoding_and_closing_do(unsaved, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(parts, "time", types.SimpleNamespace(perf_counter=clock.perf_counter, monotonic=time.monotonic))

    class File(io.BytesIO):
        def close(self):
            clock.now += 10.0
            super().close()

    def encode(records):
        clock.now += 1.0
        return lines(records)

    monkeypatch.setattr(files, "create", lambda path: File())
    _, seconds = parts_and_seconds(encode, range(parts._BATCH + 1))
    assert seconds == [1.0, 1.0 + 10.0]


def test_no_record_no_file(tmp_path):
    assert written(tmp_path / "d", []) == written(tmp_path / "d", [], []) == []
    assert not (tmp_path / "d").exists() or not list((tmp_path / "d").iterdir())


def test_numbers_do_not_depend_on_the_order():
    parts = [Shard(f"d/{name}.t", i) for i, name in enumerate("cab")]
    expected = [("d/a.t", 1), ("d/b.t", 2), ("d/c.t", 0)]
    for given in (parts, parts[::-1]):
        assert [(part, shard.records) for part, shard in number(given, "d")] == expected
    assert next(shard.path for _, shard in number(parts, "d")) == "d/part-00000-of-00003.t"


def test_each_format_has_numbers_of_its_own():
    parts = [Shard(f"p/{name}", 1, "hash") for name in ("a.txt", "b.log", "c.txt")]
    assert [(part, shard.path, shard.sha256) for part, shard in number(parts, "d")] == [
        ("p/a.txt", "d/part-00000-of-00002.txt", "hash"),
        ("p/b.log", "d/part-00000-of-00001.log", "hash"),
        ("p/c.txt", "d/part-00001-of-00002.txt", "hash"),
    ]


def part(path, content):
    """Writes a part of one record."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return Shard(str(path), 1)


def test_naming_twice_is_naming_once(tmp_path):
    one = part(tmp_path / ".parts" / "one.txt", "x")
    (shard,) = name_parts([one], str(tmp_path))
    assert name_parts([one], str(tmp_path)) == [shard]
    assert Path(one.path).read_text() == "x"  # it keeps its first name
    remove_parts(str(tmp_path))
    assert name_parts([one], str(tmp_path)) == [shard]
    assert Path(shard.path).read_text() == "x" and list(tmp_path.iterdir()) == [Path(shard.path)]


def test_what_is_named_last_has_the_name(tmp_path):
    first, second = (part(tmp_path / ".parts" / f"{i}.txt", i) for i in "12")
    (shard,) = name_parts([first], str(tmp_path))
    assert name_parts([second], str(tmp_path)) == [shard]
    assert Path(shard.path).read_text() == "2" and Path(first.path).read_text() == "1"


def test_without_hard_links_a_part_is_copied(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")  # as vfat and some network filesystems say

    monkeypatch.setattr(os, "link", link)  # which Path.hardlink_to calls
    written(tmp_path / "d", ["1", "2"])
    assert content(tmp_path / "d") == ["1", "2"]


def test_naming_what_was_never_written_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        name_parts([Shard(str(tmp_path / "part"), 1)], str(tmp_path))


@pytest.mark.parametrize("records", [["1", "2"], []], ids=["with records", "without a record"])
def test_an_attempt_that_died_while_publishing_leaves_nothing(tmp_path, records):
    (tmp_path / "d").mkdir()
    for name in ("part-00000-of-00001", "part-00007-of-00009", "part-00008-of-00009"):
        (tmp_path / "d" / f"{name}.txt").write_text("of the first attempt\n")
    found = written(tmp_path / "d", records)
    assert content(tmp_path / "d") == records
    assert sorted(shard.path for shard in found) == sorted(str(path) for path in (tmp_path / "d").iterdir())


def test_an_attempt_takes_up_parts_that_an_earlier_one_named(tmp_path):
    parts_left = [part(tmp_path / ".parts" / f"{name}.txt", name) for name in "ab"]
    third = part(tmp_path / ".parts" / "0.txt", "0")  # of a worker that was lost, after all three were named
    name_parts([third, *parts_left], str(tmp_path))
    Path(third.path).unlink()
    named = name_parts(parts_left, str(tmp_path))
    assert {path.name for path in tmp_path.glob("part-*")} == {"part-00000-of-00002.txt", "part-00001-of-00002.txt"}
    assert {Path(shard.path).read_text() for shard in named} == {"a", "b"}


def test_parts_that_are_not_named_leave_the_files_that_are_there(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "part-00000-of-00001.txt").write_text("old\n")
    labels = Label("20261121T010203.456Z", "embedded"), Label("20261121T010203.456Z", "reused")
    write = WriteParts(str(tmp_path / "d"), Framed(".txt", lines), labels)

    def build(root):
        return tuple(root | f"Records{i}" >> beam.Create([f"{i}"]) for i in range(2)) | write

    outputs, _ = collect(build)
    assert [path.read_text() for path in (tmp_path / "d").glob("part-*")] == ["old\n"]
    by_label = {Label.of(shard.path): Path(shard.path).read_text() for shard in outputs["shards"]}
    assert by_label == dict(zip(labels, ["0\n", "1\n"], strict=True))
    assert sorted(unnamed(str(tmp_path / "d"))) == sorted(shard.path for shard in outputs["shards"])


def test_parts_of_a_later_attempt_stay(tmp_path):
    names = ["1-embedded-a.txt", "2-embedded-b.txt", "3-embedded-c.txt", "stray.txt"]
    for name in names:
        part(tmp_path / ".parts" / name, name)
    remove_parts(str(tmp_path), after="2")
    assert [Path(path).name for path in unnamed(str(tmp_path))] == ["3-embedded-c.txt"]
    remove_parts(str(tmp_path), after="3")
    assert list(tmp_path.iterdir()) == []
    remove_parts(str(tmp_path))  # which are gone already


def test_a_part_that_comes_while_others_are_removed_stays(tmp_path, monkeypatch):
    """Another attempt has taken over the run meanwhile, and writes."""
    own = part(tmp_path / ".parts" / "1-embedded-a.txt", "")
    match = files.match

    def look(*args):
        found = match(*args)
        part(tmp_path / ".parts" / "2-embedded-b.txt", "")
        return found

    monkeypatch.setattr(files, "match", look)
    remove_parts(str(tmp_path))
    assert not Path(own.path).exists() and (tmp_path / ".parts" / "2-embedded-b.txt").exists()


def test_parts_under_new_names_have_their_labels_and_their_records(tmp_path):
    names = ["n00000001_1-embedded-a.tfrecord", "n00000002_2-reused-b.parquet"]
    old = [part(tmp_path / ".parts" / name, name) for name in names]
    gone = str(tmp_path / ".parts" / "3-embedded-c.txt")
    shards.rename_parts([*(each.path for each in old), gone])
    new = unnamed(str(tmp_path))
    assert {(str(Label.of(path)), Path(path).suffix, Path(path).read_text()) for path in new} == {
        ("n00000001_1-embedded-", ".tfrecord", names[0]),
        ("n00000002_2-reused-", ".parquet", names[1]),
    }
    assert not {each.path for each in old} & set(new)
    with pytest.raises(FileNotFoundError):  # who knew them can name none
        name_parts(old, str(tmp_path))


def test_other_files_stay_if_the_check_fails_or_they_are_replaced_after_it(tmp_path):
    own = part(tmp_path / ".parts" / "a.txt", "own")
    others = [tmp_path / f"part-0000{i}-of-00002.txt" for i in range(2)]
    for path in others:
        path.write_text("old")

    def lost():
        raise contested.Lost("taken over")

    with pytest.raises(contested.Lost):
        name_parts([own], str(tmp_path), lost)
    assert all(path.exists() for path in others)

    def replace():
        (tmp_path / "new").write_text("of another")
        (tmp_path / "new").replace(others[1])

    name_parts([own], str(tmp_path), replace)
    assert not others[0].exists() and others[1].read_text() == "of another"


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("directory", "", "expected a path"),
        ("part_format", Framed("txt", lines), "expected a dot and letters"),
        ("max_bytes", 0, "expected a number of bytes from 1"),
        ("max_seconds", 0, "expected a number of seconds above 0"),
    ],
)
def test_attributes_are_checked_at_construction(attribute, value, words):
    attributes = {"directory": "d", "part_format": Framed(".txt", lines)} | {attribute: value}
    shown = "suffix='txt'" if attribute == "part_format" else f"{attribute}={value!r}"
    with pytest.raises(ValueError, match=f"^{shown}: {words}"):
        WriteParts(**attributes)


def test_a_bundle_that_ran_twice_leaves_no_double_record(tmp_path):
    stray = tmp_path / "d" / ".parts" / "of-a-bundle-that-died.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("stray\n")
    written(tmp_path / "d", ["1", "2"])
    assert content(tmp_path / "d") == ["1", "2"]


@pytest.mark.parametrize("records", [["1", "2"], []], ids=["with records", "without a record"])
def test_before_naming_all_parts_are_there_and_all_old_files(tmp_path, records):
    directory, seen = tmp_path / "d", tmp_path / "seen"
    directory.mkdir()
    old = directory / "part-00000-of-00002.txt"
    old.write_text("old\n")
    written(directory, records, before_naming=functools.partial(look, directory, seen))
    first, *_ = seen.read_text().splitlines()
    assert first == f"{1 if records else 0} parts, old files: old"
    assert content(directory) == records


def look(directory, seen):
    """Adds a line that says how many parts there are, and what the files with a final name hold."""
    parts = list((directory / ".parts").glob("*"))
    final = [path.read_text().strip() for path in directory.glob("part-*")]
    with seen.open("a") as file:
        file.write(f"{len(parts)} parts, old files: {' '.join(final)}\n")


def test_where_it_cannot_be_made_ready_nothing_is_named(tmp_path):
    def fail():
        raise OSError("the report stays")

    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "part-00000-of-00001.txt").write_text("old\n")
    with pytest.raises(Exception, match="the report stays"):
        written(tmp_path / "d", ["1"], before_naming=fail)
    assert [path.read_text() for path in (tmp_path / "d").glob("part-*")] == ["old\n"]


def test_whether_all_shards_are_there(tmp_path):
    assert shards.are_all(str(tmp_path / "d"), 0)
    number_written = len(written(tmp_path / "d", ["x" * 99] * 1000, max_bytes=10_000))
    assert shards.are_all(str(tmp_path / "d"), number_written)
    assert not shards.are_all(str(tmp_path / "d"), number_written - 1)
    assert not shards.are_all(str(tmp_path / "d"), 0)
    for stranger in ("part-00000-of-00001.txt", "part-00001-of-00002.log", ".parts/x.txt"):
        path = tmp_path / "d" / stranger
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        assert not shards.are_all(str(tmp_path / "d"), number_written)
        path.unlink()
    (tmp_path / "d" / f"part-00001-of-{number_written:05d}.txt").unlink()
    assert not shards.are_all(str(tmp_path / "d"), number_written)
    assert not shards.are_all(str(tmp_path / "d"), number_written - 1)  # as many, of more


def test_the_settings_of_parts_reach_their_writer(unsaved):
    label = Label("20261121T010203.456Z", "embedded")
    write = shards._WriteParts(WriteParts("gs://b/d", Framed(".txt", lines), max_bytes=7, max_seconds=3.0), label)
    write.start_bundle()
    own = write._writer
    assert (own._prefix, own._max_bytes, own._max_seconds) == (f"gs://b/d/.parts/{label}", 7, 3.0)


def test_a_job_that_is_killed_loses_no_more_than_a_minute():
    defaults = WriteParts("gs://b/d", Framed(".txt", lines))
    assert (defaults.max_bytes, defaults.max_seconds) == (256 * 2**20, 60.0)


@pytest.mark.parametrize(("output", "run_id"), [("", "r"), ("out", ""), ("out", "a/b"), ("out", "..")])
def test_a_run_without_a_place_or_a_name_is_refused(output, run_id):
    with pytest.raises(ValueError, match="^(output|run_id)="):
        shards.check_run(output, run_id)
    shards.check_run("out", "r")


def test_a_bundle_whose_run_was_taken_over_fails_and_leaves_no_part(tmp_path):
    def check():
        raise contested.Lost("taken over")

    bundle = shards._WriteParts(WriteParts(str(tmp_path), Framed(".txt", lines), check=check), None)
    bundle.start_bundle()
    with pytest.raises(contested.Lost, match="taken over"):
        list(bundle.process("a"))
        list(bundle.finish_bundle())
    assert unnamed(str(tmp_path)) == []
