"""transforms.lists.list_rows: rows whose quotes are none, and those of several lines."""

import pytest

from transforms.lists.uri_lists import uris_in


@pytest.mark.parametrize(
    "caption",
    ['"not closed', '"The "best" dog', '"', '"closed" early', '"The \\"best\\" dog"', 'x "y"', '5" pipe'],
)
@pytest.mark.parametrize(("delimiter", "name"), [(",", "/l.csv"), ("\t", "/l.tsv"), ("\t", "/l.csv")])
@pytest.mark.parametrize("last", ["foo", 'foo "bar" baz', '"quoted"'])
def test_a_quote_that_is_none_takes_no_rows_along(caption, delimiter, name, last):
    rows = [["n", "image", "caption"], ["1", "a.jpg", caption], ["2", "b.jpg", "x"], ["3", "c.jpg", last]]
    lines = [f"{delimiter.join(row)}\n" for row in [*rows, ["4", "d.jpg", "x"]]]
    assert list(uris_in(lines, name)) == ["/a.jpg", "/b.jpg", "/c.jpg", "/d.jpg"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["image,caption\n", 'a.jpg,"a\n', 'b.jpg,"\n'], ["/a.jpg", "/b.jpg"]),
        (["caption;image\n", '"x ;a.jpg\n', '5";b.jpg\n'], ["/a.jpg", "/b.jpg"]),
        (["caption;image\n", '"x; y\n', 'z";b.jpg\n'], ["/b.jpg"]),
        (["image,caption\n", 'a.jpg,"one,\n', "two, three\n", 'four"\n'], ["/a.jpg"]),
    ],
)
def test_rows_that_two_quotes_of_others_surround(lines, expected):
    assert list(uris_in(lines, "/l.csv")) == expected


def test_a_quote_that_is_closed_rows_later():
    lines = ["image\tcaption\n", 'a.jpg\t"open\n', "b.jpg\tx\n", 'c.jpg\tshut"\n', 'd.jpg\t"two\n', 'lines"\n']
    assert list(uris_in(lines, "/l.tsv")) == ["/a.jpg", "/b.jpg", "/c.jpg", "/d.jpg"]
    lines = ["image,caption\n", 'a.jpg,"open\n', *["b.jpg,x\n"] * 10**5, "c.jpg,x\n"]
    assert len(list(uris_in(lines, "/l.csv"))) == 10**5 + 2
    assert list(uris_in(["n,image\n", '"1,a.jpg\n', "#2,b.jpg\n", "3,c.jpg\n"], "/l.csv")) == ["/a.jpg", "/c.jpg"]


def test_quotes_that_would_make_a_list_be_read_again_and_again():
    with pytest.raises(ValueError, match="quotes in too many cells are not closed"):
        list(uris_in(["uri,n,m\n", *['a",b"c,"\n'] * 10**5], "/l.csv"))


def test_a_line_within_a_quoted_cell_is_no_comment():
    assert list(uris_in(["uri,n\n", '"a\n', '#b.jpg",1\n', "#c.jpg,2\n"], "/l.csv")) == ["/a\n#b.jpg"]


def test_between_tabs_a_quoted_cell_has_no_rows_in_it_whatever_they_name():
    lines = ["image\tcaption\n", 'a\t"open\n', "b\tx\n", 'c\tshut"\n']
    assert list(uris_in(lines, "/l.tsv")) == ["/a", "/b", "/c"]


def test_a_short_row_says_nothing_of_the_columns():
    lines = ["image,caption\n", "x.jpg\n", 'a.jpg,"a\n', 'b.jpg,"\n']
    assert list(uris_in(lines, "/l.csv")) == ["/x.jpg", "/a.jpg", "/b.jpg"]
