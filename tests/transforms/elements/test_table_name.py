"""transforms.elements.table_name: what is a table's name, and its parts."""

import re

import pytest

from transforms.elements import table_name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("project:dataset.table", ("project", "dataset", "table")),
        ("project.dataset.table", ("project", "dataset", "table")),
        ("my-project-1:Images_2.vectors-3", ("my-project-1", "Images_2", "vectors-3")),
        ("example.com:project:dataset.table", ("example.com:project", "dataset", "table")),
        ("example.com:project.dataset.table", ("example.com:project", "dataset", "table")),
        ("p1:d.größen", ("p1", "d", "größen")),
    ],
)
def test_a_name_is_read(text, parts):
    assert table_name.split(text) == parts
    assert table_name.parse(text) == ".".join(parts)
    assert table_name.parse(table_name.parse(text)) == table_name.parse(text)
    assert re.fullmatch(table_name.PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "table",
        "dataset.table",
        "project:table",
        "Project:dataset.table",
        "project:data-set.table",
        "project:dataset.table$20260329",
        "project:dataset.table`",
        "p:d.t` UNION ALL SELECT",
        "p:d.t; DROP TABLE x",
        "p:d.t\n",
    ],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match="expected PROJECT:DATASET.TABLE") as refused:
        table_name.parse(text)
    assert repr(text) in str(refused.value)
    assert not re.fullmatch(table_name.PATTERN, text)


def test_the_tables_beside_a_table_have_names_of_their_own():
    names = [named("p1.d.t") for named in (str, table_name.failures, table_name.runs, table_name.latest)]
    assert names == ["p1.d.t", "p1.d.t_failures", "p1.d.t_runs", "p1.d.t_latest"]
    assert [table_name.parse(name) for name in names] == names
