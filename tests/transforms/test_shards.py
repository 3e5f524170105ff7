"""transforms.shards: numbered, complete, and right after a retry."""

import functools
import io
import os
from pathlib import Path

import apache_beam as beam
import pytest

from tests.clocks import Clock
from tests.collecting import collect
from transforms import shards
from transforms.records import Shard
from transforms.shards import WriteShards, number


def lines(records):
    return [f"{record}\n".encode() for record in records]


def written(directory, *collections, **options):
    """Writes records of several collections, and returns the shards that were reported."""

    def build(root):
        records = tuple(root | f"Records{i}" >> beam.Create(found) for i, found in enumerate(collections))
        return records | WriteShards(str(directory), ".txt", lines, **options)

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
    written(tmp_path / "d", ["x" * 99] * 1000, max_shard_bytes=10_000)
    sizes = [path.stat().st_size for path in (tmp_path / "d").iterdir()]
    assert sum(sizes) == 100_000 and max(sizes) < 10_000 + 100 * shards._BATCH and len(sizes) >= 6


def parts_and_seconds(encode, records, max_shard_bytes=2**20):
    """Writes one bundle; returns its parts, and the seconds of each of its `StageSeconds`."""
    write = shards._WriteParts("d", ".txt", encode, max_shard_bytes)
    write.start_bundle()
    parts, seconds = [], []
    for output in [output for record in records for output in write.process(record)]:
        if isinstance(output, beam.pvalue.TaggedOutput):
            seconds.append(output.value.seconds)
        else:
            parts.append(output)
    for output in write.finish_bundle():
        if isinstance(output, beam.pvalue.TaggedOutput):
            seconds.append(output.value.value.seconds)
        else:
            parts.append(output.value)
    return parts, seconds


def test_parts_are_closed_when_they_are_full_and_not_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.files, "create", lambda path: io.BytesIO())
    # Two batches of 64 records of 100 bytes reach 12,800 bytes.
    for bound in (6401, 12_800):
        parts, _ = parts_and_seconds(lines, ["x" * 99] * 300, bound)
        assert [part.records for part in parts] == [128, 128, 44]


def test_writing_takes_as_long_as_encoding_and_closing_do(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(shards, "time", clock)

    class File(io.BytesIO):
        def close(self):
            clock.now += 10.0
            super().close()

    def encode(records):
        clock.now += 1.0
        return lines(records)

    monkeypatch.setattr(shards.files, "create", lambda path: File())
    _, seconds = parts_and_seconds(encode, range(shards._BATCH + 1))
    assert seconds == [1.0, 1.0, 10.0]


def test_no_record_no_file(tmp_path):
    assert written(tmp_path / "d", []) == written(tmp_path / "d", [], []) == []
    assert not (tmp_path / "d").exists() or not list((tmp_path / "d").iterdir())


def test_numbers_do_not_depend_on_the_order():
    parts = [Shard(f"d/{name}", i) for i, name in enumerate("cab")]
    expected = [("d/a", 1), ("d/b", 2), ("d/c", 0)]
    for given in (parts, parts[::-1]):
        assert [(part, shard.records) for part, shard in number(given, "d", ".t")] == expected
    assert next(shard.path for _, shard in number(parts, "d", ".t")) == "d/part-00000-of-00003.t"


def test_publishing_twice_is_publishing_once(tmp_path):
    part, final = tmp_path / "part", tmp_path / "final"
    part.write_text("x")
    shard = Shard(str(final), 1)
    assert shards._publish(str(part), shard) == shards._publish(str(part), shard) == shard
    part.unlink()  # as all parts are when all is done
    assert shards._publish(str(part), shard) == shard
    assert final.read_text() == "x" and [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_is_published_last_has_the_name(tmp_path):
    first, second, final = tmp_path / "first", tmp_path / "second", Shard(str(tmp_path / "final"), 1)
    first.write_text("1")
    second.write_text("2")
    shards._publish(str(first), final)
    shards._publish(str(second), final)
    assert Path(final.path).read_text() == "2" and first.read_text() == "1"


def test_without_hard_links_a_part_is_copied(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")  # as vfat and some network filesystems say

    monkeypatch.setattr(os, "link", link)  # which Path.hardlink_to calls
    written(tmp_path / "d", ["1", "2"])
    assert content(tmp_path / "d") == ["1", "2"]


def test_publishing_what_was_never_written_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        shards._publish(str(tmp_path / "part"), Shard(str(tmp_path / "final"), 1))


@pytest.mark.parametrize("records", [["1", "2"], []], ids=["with records", "without a record"])
def test_an_attempt_that_died_while_publishing_leaves_nothing(tmp_path, records):
    (tmp_path / "d").mkdir()
    for name in ("part-00000-of-00001", "part-00007-of-00009", "part-00008-of-00009"):
        (tmp_path / "d" / f"{name}.txt").write_text("of the first attempt\n")
    found = written(tmp_path / "d", records)
    assert content(tmp_path / "d") == records
    assert sorted(shard.path for shard in found) == sorted(str(path) for path in (tmp_path / "d").iterdir())


def test_an_attempt_takes_up_parts_that_an_earlier_one_named(tmp_path):
    parts = [Shard(str(tmp_path / name), 1) for name in "ab"]
    for part in parts:
        Path(part.path).write_text(part.path)
    third = Shard(str(tmp_path / "0"), 1)  # of a worker that was lost, after the first attempt had numbered
    for path, shard in number([third, *parts], str(tmp_path), ".txt"):
        if path != third.path:
            shards._publish(path, shard)
    published = [shards._publish(path, shard) for path, shard in number(parts, str(tmp_path), ".txt")]
    shards._remove_strays(published, str(tmp_path))
    assert {path.name for path in tmp_path.glob("part-*")} == {"part-00000-of-00002.txt", "part-00001-of-00002.txt"}
    assert {Path(shard.path).read_text() for shard in published} == {part.path for part in parts}


def test_a_bundle_that_ran_twice_leaves_no_double_record(tmp_path):
    stray = tmp_path / "d" / shards._PARTS / "of-a-bundle-that-died.txt"
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
    parts = list((directory / shards._PARTS).glob("*"))
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
    number_written = len(written(tmp_path / "d", ["x" * 99] * 1000, max_shard_bytes=10_000))
    assert shards.are_all(str(tmp_path / "d"), number_written)
    assert not shards.are_all(str(tmp_path / "d"), number_written - 1)
    assert not shards.are_all(str(tmp_path / "d"), 0)
    for stranger in ("part-00000-of-00001.txt", f"{shards._PARTS}/x.txt"):
        path = tmp_path / "d" / stranger
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        assert not shards.are_all(str(tmp_path / "d"), number_written)
        path.unlink()
    (tmp_path / "d" / f"part-00001-of-{number_written:05d}.txt").unlink()
    assert not shards.are_all(str(tmp_path / "d"), number_written)
