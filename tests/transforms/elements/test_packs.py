"""transforms.elements.packs: records that cross in packs, or one by one, are joined alike."""

import random

import apache_beam as beam
import pytest

from tests.helpers.collecting import collect
from transforms.elements import packs
from transforms.elements.packs import FlattenRefs, JoinByKey
from transforms.elements.records import ImageRef

RECORDS = [(b"/\xff\xfe", b""), (b"", b"\0" * 1000), (b"/a", b"1"), (b"/a", b"1"), (b"/a", b"2")]


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], []], ids=["several", "one", "none"])
def test_a_pack_gives_back_its_records_in_order(records):
    assert list(packs.unpack(packs.pack(records))) == records


def test_records_that_resemble_each_other_take_less_room():
    records = [(b"%d" % number, b"gs://bucket/photographs/%d.jpg" % number) for number in range(100)]
    assert len(packs.pack(records)) < sum(len(key) + len(record) for key, record in records) / 4


def join(in_packs, **inputs):
    def build(root):
        keyed = {
            name: root | name >> beam.Create(records).with_output_types(tuple[bytes, bytes])
            for name, records in inputs.items()
        }
        groups = keyed | JoinByKey(in_packs)
        return {"groups": groups | beam.MapTuple(lambda key, group: (key, {n: sorted(group[n]) for n in group}))}

    groups = collect(build)[0]["groups"]
    assert len(dict(groups)) == len(groups)
    return dict(groups)


@pytest.mark.slow
@pytest.mark.parametrize("in_packs", [False, True])
def test_a_key_meets_all_its_records_once(in_packs):
    assert join(in_packs, ones=RECORDS, others=[(b"/a", b"3"), (b"/b", b"4")]) == {
        b"/\xff\xfe": {"ones": [b""], "others": []},
        b"": {"ones": [b"\0" * 1000], "others": []},
        b"/a": {"ones": [b"1", b"1", b"2"], "others": [b"3"]},
        b"/b": {"ones": [], "others": [b"4"]},
    }
    assert join(in_packs, ones=RECORDS[:1]) == {b"/\xff\xfe": {"ones": [b""]}}
    assert join(in_packs, ones=[], others=[]) == {}


@pytest.mark.slow
def test_more_records_than_a_bundle_holds_at_once(monkeypatch):
    monkeypatch.setattr(packs, "_MAX_BYTES", 100)
    rng = random.Random(0)
    ones, others = ([(b"%d" % rng.randrange(400), b"%d" % number) for number in range(1000)] for _ in range(2))
    assert join(True, ones=ones, others=others) == join(False, ones=ones, others=others)


def test_a_bundle_that_ended_leaves_nothing_behind():
    """A worker keeps the objects of its stages, and uses them for the next bundle, also after one that failed."""
    for do_fn, element in ((packs._Pack("ones"), (b"/a", b"1")), (packs._PackRefs(), ImageRef(b"/a"))):
        for bundle in range(3):
            do_fn.start_bundle()
            assert list(do_fn.process(element)) == []
            if bundle != 1:  # that one fails
                assert len(list(do_fn.finish_bundle())) == 1
                assert list(do_fn.finish_bundle()) == []


@pytest.mark.slow
@pytest.mark.parametrize("in_packs", [False, True])
@pytest.mark.parametrize("count", [0, 1, 64, 150])
def test_all_refs_of_several_collections(count, in_packs):
    refs = [ImageRef(b"/\xff%d" % number, "7", number, "AAAAAA==", number % 2 == 0) for number in range(count)]

    def build(root):
        halves = (refs[: count // 3], refs[count // 3 :])
        collections = tuple(
            root | f"Create{i}" >> beam.Create(half).with_output_types(ImageRef) for i, half in enumerate(halves)
        )
        return {"refs": collections | FlattenRefs(in_packs)}

    assert sorted(collect(build)[0]["refs"], key=lambda ref: ref.size) == refs


def test_a_bundle_hands_over_its_records_before_they_take_more_memory_than_a_bound(monkeypatch):
    monkeypatch.setattr(packs, "_MAX_BYTES", 100)
    do_fn = packs._Pack("ones")
    do_fn.start_bundle()
    assert list(do_fn.process((b"k" * 40, b"r" * 40))) == []
    given = list(do_fn.process((b"k" * 10, b"r" * 10)))  # the keys take memory too
    assert sorted(record for _, (_, packed) in given for record in packs.unpack(packed)) == [
        (b"k" * 10, b"r" * 10),
        (b"k" * 40, b"r" * 40),
    ]
    assert list(do_fn.process((b"k" * 40, b"r" * 40))) == []  # it counts anew
    assert len(list(do_fn.finish_bundle())) == 1


def test_refs_cross_as_soon_as_some_have_come():
    """So that all threads have some in a small run."""
    do_fn = packs._PackRefs()
    do_fn.start_bundle()
    given = [list(do_fn.process(ImageRef(b"/%d" % number))) for number in range(128)]
    assert [number for number, each in enumerate(given) if each] == [63, 127]
    assert list(do_fn.finish_bundle()) == []


def test_packs_are_sorted_into_no_more_buckets_than_workers_can_take_turns_with():
    do_fn = packs._Pack("ones")
    do_fn.start_bundle()
    for number in range(5000):
        list(do_fn.process((b"/%d" % number, b"")))
    buckets = [packed.value[0] for packed in do_fn.finish_bundle()]
    assert len(buckets) == len(set(buckets)) == packs._BUCKETS


def test_the_bound_of_a_bundle_is_some_megabytes():
    do_fn = packs._Pack("ones")
    do_fn.start_bundle()
    given = [list(do_fn.process((b"/%d" % number, bytes(64 << 10)))) for number in range(64)]  # 4 MiB
    assert any(given)


@pytest.mark.parametrize("in_packs", [False, True])
def test_records_cross_in_packs_if_they_are_to(in_packs):
    """Which changes no result, but what the local runner holds in memory."""
    pipeline = beam.Pipeline()
    refs = pipeline | "Refs" >> beam.Create([]).with_output_types(ImageRef)
    keyed = pipeline | "Keyed" >> beam.Create([]).with_output_types(tuple[bytes, bytes])
    _ = (refs,) | "Flat" >> FlattenRefs(in_packs)
    _ = {"ones": keyed} | "Join" >> JoinByKey(in_packs)
    assert {f"{stage}/Unpack" in pipeline.applied_labels for stage in ("Flat", "Join")} == {in_packs}
