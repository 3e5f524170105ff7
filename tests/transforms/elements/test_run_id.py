"""transforms.elements.run_id: the name of a run is one part of a path, and has no surprises for a shell or a query."""

import pytest

from transforms.elements.run_id import check_run_id


@pytest.mark.parametrize("run_id", ["7", "nightly-1", "20260102T030405Z-0123456789ab", "v1.2_final", "n" * 100])
def test_names_of_runs(run_id):
    check_run_id(run_id)


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "n" * 101,
        ".",
        "..",
        ".hidden",
        "-flag",
        "_temp",
        "../up",
        "a/b",
        "last night",
        "night\n",
        "größe",
        "it's",
        "a*",
    ],
)
def test_what_is_no_name_of_a_run(run_id):
    with pytest.raises(ValueError, match="at most 100, the first of them a letter or digit") as error:
        check_run_id(run_id)
    assert str(error.value).startswith(repr(run_id))
