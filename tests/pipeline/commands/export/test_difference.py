import pytest

from pipeline.commands.export.difference import Counts, Difference, NotPruned
from pipeline.commands.export.target import Place, TargetRow
from transforms.encoding.stored_embeddings import Identity


@pytest.fixture
def difference():
    opened = Difference()
    yield opened
    opened.close()


def identity(key, version="1", sha256="a", shard=b""):
    return Identity(key.encode(), version, sha256, 3, "AAAAAA==", "d" * 64, shard)


def test_new_replaced_and_gone_rows(difference):
    difference.add_current(0, [(0, identity("same")), (9, identity("new")), (18, identity("changed", "2", "b"))])
    difference.add_stored(
        [TargetRow("same", "a 1"), TargetRow("changed", "a 1"), TargetRow("gone", "a 1")], is_log=False
    )
    assert difference.counts() == Counts(current=3, stored=3, new=1, replaced=1, gone=1, doubled=0)
    assert list(difference.to_send()) == [Place("new", 0, 9), Place("changed", 0, 18)]
    assert list(difference.to_delete()) == ["gone"]


def test_nothing_is_sent_again(difference):
    difference.add_current(0, [(0, identity("same"))])
    difference.add_stored([TargetRow("same", "a 1")], is_log=False)
    assert difference.counts() == Counts(1, 1, 0, 0, 0, 0)
    assert (list(difference.to_send()), list(difference.to_delete())) == ([], [])


@pytest.mark.parametrize(
    ("versions", "file"),
    [
        *((("5", "6"), 1), (("6", "5"), 0), (("5", "5"), 1), (("9", "10"), 1), (("100-2.0", "100-1.0"), 1)),
        *((("", ""), 1), ((str(2**63), "5"), 1), ((str(2**63 - 1), "5"), 0)),
        *((("\u0666", "5"), 1), (("5", "of a file"), 1)),
    ],
    ids=[
        *("later generation", "earlier generation", "same generation", "as numbers", "file", "unknown"),
        *("no 64 bits", "largest", "other digits", "a file after an object"),
    ],
)
def test_which_of_two_records_counts(difference, versions, file):
    for number, version in enumerate(versions):
        difference.add_current(number, [(0, identity("key", version))])
    assert [place.file for place in difference.current()] == [file]


def test_of_the_rows_of_a_log_the_last_counts(difference):
    difference.add_current(0, [(0, identity("a")), (1, identity("b")), (2, identity("c"))])
    difference.add_stored(
        [
            TargetRow("a", "old"),
            TargetRow("b", "a 1"),
            TargetRow("a", "a 1"),
            TargetRow("b", None),
            TargetRow("c", None),
        ],
        is_log=True,
    )
    assert [place.key for place in difference.to_send()] == ["b", "c"]


def test_a_key_with_several_rows_is_deleted_and_sent(difference):
    difference.add_current(0, [(0, identity("same")), (1, identity("twice")), (2, identity("changed", "2"))])
    stored = [
        TargetRow(key, "a 1") for key in ("same", "twice", "gone", "changed", "gone", "twice", "changed", "twice")
    ]
    difference.add_stored(stored, is_log=False)
    counts = difference.counts()
    assert counts == Counts(current=3, stored=4, new=0, replaced=0, gone=1, doubled=2)
    assert (counts.to_send, counts.to_delete) == (2, 3)
    assert list(difference.to_delete()) == ["gone"]
    assert difference.doubled(["twice", "same", "changed"]) == ["twice", "changed"]
    assert [place.key for place in difference.to_send()] == ["twice", "changed"]


def test_what_is_left_out_is_forgotten_while_it_is_sent(difference):
    difference.add_current(0, [(i, identity(str(i))) for i in range(5000)])
    difference.add_stored([TargetRow("1", "old"), TargetRow("3", "old")], is_log=False)
    for i, place in enumerate(difference.to_send()):
        assert place.key == str(i)
        if not i:
            difference.leave_out(["0", "3", "4999"])
    assert i == 4999
    assert difference.counts() == Counts(current=4997, stored=1, new=4996, replaced=1, gone=0, doubled=0)
    assert {place.key for place in difference.sample(5000)} == {str(i) for i in range(5000)} - {"0", "3", "4999"}


def test_places_come_in_the_order_of_the_files(difference):
    difference.add_current(1, [(place, identity(f"z{place}")) for place in range(3)])
    difference.add_current(0, [(place, identity(f"a{2 - place}")) for place in range(3)])
    for places in (difference.to_send(), difference.current()):
        assert [(place.file, place.offset) for place in places] == [
            (file, place) for file in (0, 1) for place in range(3)
        ]


def test_a_sample_is_always_the_same(difference):
    difference.add_current(0, [(place, identity(f"{place}")) for place in range(50)])
    sample = difference.sample(10)
    assert len(sample) == 10 and sample == difference.sample(10)
    assert difference.sample(60) == list(difference.current())


def test_images_that_are_gone_are_pruned(difference):
    keys = ("in/here", "in/gone", "out/gone", "in/hidden")
    difference.add_current(0, [(i, identity(key)) for i, key in enumerate(keys)])
    difference.add_current(1, [(0, identity("in/member", shard=b"x")), (1, identity("in/earlier", shard=None))])
    places = []

    def listed():
        yield from (b"in/here", b"in/new")
        places.extend((b"in/hidden", b"in/member"))  # found out on the way

    assert difference.prune(listed(), lambda key: key.startswith(b"in/"), places.__contains__) == NotPruned(2, 1)
    assert {place.key for place in difference.current()} == {*keys, "in/member", "in/earlier"} - {"in/gone"}


def test_whether_an_image_was_a_file_is_told_by_the_latest_record(difference):
    difference.add_current(0, [(0, identity("a", shard=None)), (1, identity("b"))])
    difference.add_current(1, [(0, identity("a")), (1, identity("b", shard=b"x"))])
    assert difference.prune([], lambda key: True, lambda key: False) == NotPruned(maybe_no_file=1, maybe_unseen=0)
    assert [place.key for place in difference.current()] == ["b"]
