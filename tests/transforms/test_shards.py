"""transforms.shards: numbered, complete, and right after a retry."""

from pathlib import Path

import apache_beam as beam
import pytest

from tests.collecting import collect
from transforms import shards
from transforms.records import SECONDS, Shard
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
    assert {busy.stage for busy in found[SECONDS]} == ({"write"} if any(collections) else set())
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
    assert final.read_text() == "x" and not part.exists()


def test_publishing_what_was_never_written_fails(tmp_path):
    with pytest.raises(OSError, match="Rename operation failed"):
        shards._publish(str(tmp_path / "part"), Shard(str(tmp_path / "final"), 1))


def test_a_bundle_that_ran_twice_leaves_no_double_record(tmp_path):
    stray = tmp_path / "d" / shards._PARTS / "of-a-bundle-that-died.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("stray\n")
    written(tmp_path / "d", ["1", "2"])
    assert content(tmp_path / "d") == ["1", "2"]
