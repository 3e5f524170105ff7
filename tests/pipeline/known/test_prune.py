"""pipeline.known.prune: which rows of a table a run deletes, of those whose keys it does not list."""

import apache_beam as beam
import pytest

from pipeline.known import prunable, prune
from pipeline.known.prunable import Unseen
from pipeline.known.prune import Prune
from tests.helpers.collecting import collect
from transforms.elements.records import Failure, Known


def known(key, is_file=True):
    return Known(key, "7", "ab" * 32, 10, "AAAAAA==", 1.0, is_file=is_file)


LISTED = [known(b"/photos/%d.jpg" % i) for i in range(3)]
UNLISTED = [
    known(b"/photos/gone.jpg"),
    known(b"/photos/sub/a.jpg"),
    known(b"/photos/link.jpg"),
    known(b"/photos/x.tar#1.jpg", is_file=False),
    known(b"/elsewhere/a.jpg"),
    known(b"/elsewhere/x.tar#1.jpg", is_file=False),
    known(b"/photos/.hidden.jpg"),
]


def pruned(places, *, include_hidden=False):
    def build(root):
        failures = [Failure.of(place, "list", OSError("no")) for place in places]
        return {
            "known": root | "Known" >> beam.Create([*LISTED, *UNLISTED]).with_output_types(Known),
            "unlisted": root | "Unlisted" >> beam.Create(UNLISTED).with_output_types(Known),
            "failures": root | "Failures" >> beam.Create(failures).with_output_types(Failure),
        } | Prune(("/photos/**",), include_hidden)

    outputs, _ = collect(build)
    keys = {name: sorted(getattr(each, "key", each) for each in outputs[name]) for name in outputs}
    assert keys.pop("rows") == sorted(each.key for each in (*LISTED, *UNLISTED[:3], *UNLISTED[6:] * include_hidden))
    assert keys.pop("untold") == [b"/photos/x.tar#1.jpg"]
    return keys


def of(step, row, *sides):
    step.setup()
    return list(step.process(row, *sides))


@pytest.mark.parametrize("include_hidden", [False, True])
def test_a_hidden_row_is_of_a_listing_that_has_hidden_files(include_hidden):
    row = known(b"/photos/.a.jpg")
    for step, *sides in ((prune._Rule, Unseen()), (prune._WithinInput,)):
        assert of(step(("/photos/**",), include_hidden), row, *sides) == [row] * include_hidden


def test_of_a_row_that_was_no_file_nothing_is_told_though_its_place_was_not_seen():
    (untold,) = of(prune._Rule(("/photos/**",), False), UNLISTED[3], Unseen([b"/photos"]))
    assert (untold.tag, untold.value) == ("untold", UNLISTED[3])
    assert of(prune._WithinInput(("/photos/**",), False), UNLISTED[3]) == []


def test_a_row_in_a_place_that_was_not_seen_stays():
    (hidden,) = of(prune._Rule(("/photos/**",), False), UNLISTED[1], Unseen([b"/photos/sub"]))
    assert (hidden.tag, hidden.value) == ("hidden", "/photos/sub")
    assert of(prune._Rule(("/photos/**",), False), UNLISTED[4], Unseen([b"/elsewhere"])) == []  # not of this input


def test_places_of_all_parts_of_a_listing_are_gathered():
    gather = prune._Gather()
    parts = [
        gather.add_input(gather.create_accumulator(), Failure.of(place, "list", OSError("no")))
        for place in (b"/a", b"/b")
    ]
    assert str(gather.extract_output(gather.merge_accumulators(parts))) == "/a, /b"


@pytest.mark.slow
def test_what_was_not_seen_is_not_gone():
    assert pruned([]) == {"gone": [b"/photos/gone.jpg", b"/photos/link.jpg", b"/photos/sub/a.jpg"], "hidden": []}
    assert pruned([b"/photos/sub", b"/photos/link.jpg", b"/elsewhere"]) == {
        "gone": [b"/photos/gone.jpg"],
        "hidden": ["/photos/link.jpg", "/photos/sub"],
    }


@pytest.mark.slow
def test_hidden_images_that_are_gone_go_where_the_listing_has_hidden_files():
    assert b"/photos/.hidden.jpg" in pruned([], include_hidden=True)["gone"]


@pytest.mark.slow
def test_too_much_that_was_not_seen():
    places = (b"/photos/%d" % i for i in range(prunable.MOST_PLACES + 1))
    assert pruned(places) == {"gone": [], "hidden": [prunable.TOO_MANY] * 3}
