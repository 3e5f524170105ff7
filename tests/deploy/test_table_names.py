"""Files of deploy/ that cannot import the package: their copies of the pattern of a table's name."""

import ast
import re
from pathlib import Path

import pytest

from deploy import flex_template
from transforms.elements import table_name

DEPLOY = Path(__file__).parents[2] / "deploy"
WORKFLOW = (DEPLOY / "workflows" / "nightly_image_embeddings.yaml").read_text()
NAMES = ("project:dataset.table", "p1.d.t-1", "example.com:project:dataset.table", "example.com:project.dataset.table")


def constants(path: Path) -> dict[str, str]:
    """Returns the strings that a module gives names to, without importing it."""
    return {
        statement.targets[0].id: statement.value.value
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
    }


def test_airflow_has_the_pattern_and_names_tables_as_sql_does():
    dag = constants(DEPLOY / "airflow" / "nightly_image_embeddings.py")
    assert dag["TABLE"] == table_name.PATTERN
    for name in NAMES:
        assert re.sub(dag["AFTER_PROJECT"], ".", name) == table_name.parse(name)


def test_workflows_has_the_pattern_spelled_out():
    """RE2 knows letters of ASCII alone, and strings in an expression are best without backslashes."""
    spelled_out = table_name.PATTERN
    for short, long in ((r"[\w-]", "[A-Za-z0-9_-]"), (r"\w", "[A-Za-z0-9_]"), (r"\.", "[.]")):
        spelled_out = spelled_out.replace(short, long)
    assert f'text.match_regex(args.output_table, "^{spelled_out}$")' in WORKFLOW


def test_the_template_has_the_pattern():
    assert flex_template.REGEXES["output_table"] == table_name.PATTERN


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.*")), ids=lambda path: path.name)
def test_no_other_pattern_of_a_table_stands_in(path):
    known = (table_name.PATTERN, "[:.][A-Za-z0-9_]+[.][A-Za-z0-9_-]+$", r"[:.](?=\w+\.[\w-]+$)")
    text = path.read_text()
    for pattern in known:
        text = text.replace(pattern, "").replace(pattern.replace("\\", "\\\\"), "")
    assert not re.search(r"(\\w|0-9_\])\+\\{0,2}(\.|\[\.\])\\{0,2}(\\w|\[)", text)
