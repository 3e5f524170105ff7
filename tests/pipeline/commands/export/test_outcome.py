from pipeline.commands.export.difference import Counts
from pipeline.commands.export.outcome import Done, plan, summary
from pipeline.commands.export.target import LeftOut, Model

NOTHING = Counts(current=1_005, stored=7, new=0, replaced=0, gone=0, doubled=0)
MODEL = Model("d" * 64, 16)


def lines(vectors, counts, measured=None, named=()):
    return summary("the table t", MODEL, Done(vectors, counts, "none", measured, named, 1.26)).splitlines()


def test_a_summary_counts_what_was_sent():
    counts = NOTHING._replace(new=1_000, replaced=2, gone=3)
    assert lines(1_005, counts, (100, 0.9876)) == [
        "1,005 vectors in the runs → the table t: 1,000 new, 2 replaced, 3 deleted, 1.3 s",
        "",
        f"  model     digest {MODEL.digest}, 16 dimensions",
        "  index     none",
        "  recall    0.988 at 10, of 100 queries against exact search in float32",
    ]


def test_an_index_that_finds_nothing_has_a_recall_too():
    assert lines(1_005, NOTHING, (100, 0.0))[-1].startswith("  recall    0.000 at 10")


def test_a_plan_counts_what_would_be_sent():
    assert plan(NOTHING._replace(new=1_000, replaced=2, gone=3), "the table t") == (
        "1,005 vectors in the runs; to the table t would be sent 1,000 new and 2 replaced, and 3 would be deleted; "
        "nothing was changed"
    )


def test_rows_that_are_only_deleted_are_a_change():
    assert "0 new, 0 replaced, 3 deleted" in lines(1_005, NOTHING._replace(gone=3))[0]


def test_keys_with_several_rows_are_in_the_plan_and_in_the_summary():
    counts = NOTHING._replace(doubled=1_002)
    assert plan(counts, "t").endswith("0 would be deleted, 1,002 with several rows mended; nothing was changed")
    assert "t: 0 new, 0 replaced, 0 deleted, 1,002 with several rows mended, 1.3 s" in lines(1_005, counts)[0]


def test_rows_that_are_left_out_are_counted_and_named():
    """120 characters of a key are shown as they are, and of a longer one both ends."""
    whole, long = "a" * 119 + "\n", "b" * 60 + "c" + "d" * 60
    first, *_, one, other, more = lines(2_010, NOTHING, named=[LeftOut(whole[1:], "r"), LeftOut(long, "s")])
    assert first == "2,010 vectors in the runs → the table t: nothing to send, 1,005 left out, 1.3 s"
    assert one == f"  left out  {'a' * 118}\\n: r" and other == f"  left out  {'b' * 60}…{'d' * 60}: s"
    assert more == "  left out  1,003 more"
    assert lines(1_006, NOTHING, named=[LeftOut("a", "r")])[-1] == "  left out  a: r"
