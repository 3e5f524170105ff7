"""pipeline.commands.verify.file_names: which run a file belongs to, and which runs are complete."""

import pytest

from pipeline.commands.verify import file_names
from pipeline.commands.verify.findings import Findings
from tests.helpers import outputs
from tests.helpers.outputs import embedding, failure

PART = "part-00000-of-00002.tfrecord"


def found(*names):
    """Returns the complete runs, and the problems and notes by their kinds."""
    findings = Findings()
    runs = file_names.complete_runs(sorted(names), findings)
    return runs, {kind: items.first for kind, items in (findings.problems | findings.notes).items()}


def test_the_names_are_the_writers(tmp_path):
    output = outputs.write_run(tmp_path, [embedding(b"/a", 1)], [failure(b"/x")], shards=1)
    names = [path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()]
    assert found(*names) == ({"r"}, {})
    assert file_names.SCHEMA in names and file_names.report_of("r") in names


def test_complete_files():
    names = [f"embeddings/r/{name}" for name in (PART, "part-0-of-2.tfrecord", f".parts/{PART}", f"{PART}.gz")]
    assert file_names.complete([*names, f"embeddings/r2/{PART}"], "embeddings/r", ".tfrecord") == names[:1]
    assert file_names.number_and_total("embeddings/part-00001-of-00002/part-00003-of-00009.parquet") == (3, 9)


@pytest.mark.parametrize("name", ["runs", "runs/r.txt", "runs/a b.json", "embeddings/x", "runs/sub/r.json"])
def test_a_file_of_no_run(name):
    assert found(name)[1] == {"a stray file": [name]}


def test_a_run_without_a_report_is_unfinished_if_it_has_a_claim_or_nothing_but_parts():
    claimed = f"embeddings/1/{PART}", "runs/1.unfinished"
    parts = ("embeddings/2/.parts/x",)
    runs, kinds = found(*claimed, *parts, f"embeddings/3/{PART}")
    assert runs == {"3"} and kinds == {"an unfinished run": ["1", "2"]}
