"""pipeline.commands.verify.findings: everything is counted, and a bounded part of it is named."""

from pipeline.commands.verify.findings import LIMIT, Findings, counted


def test_without_problems_the_text_says_that_nothing_is_wrong():
    findings = Findings()
    with findings.check("1 file"):
        pass
    assert findings.total == 0
    assert findings.text() == "ok            1 file\n\nnothing is wrong"
    checks = [{"checked": "1 file", "problems": 0}]
    assert findings.document() == {"ok": True, "checks": checks, "problems": [], "notes": []}


def test_a_check_has_the_problems_of_its_block():
    findings = Findings()
    findings.problem("broken", "before")
    with findings.check("") as check:
        check.text = "2 files"
        findings.problem("broken", "a", 1200)
        findings.note("odd", "b")
    findings.problem("broken", "after")
    assert (check.problems, findings.total) == (1200, 1202)
    assert findings.text().splitlines()[0] == "1,200 wrong   2 files"
    assert findings.text().endswith("\nnote: odd (1)\n  b\n\n1,202 problems")


def test_a_million_problems_take_no_memory():
    findings = Findings()
    for number in range(LIMIT + 5):
        findings.problem("broken", f"file {number}")
    (problem,) = findings.document()["problems"]
    assert (problem["count"], len(problem["first"])) == (LIMIT + 5, LIMIT)
    assert f"  … the first {LIMIT} of {LIMIT + 5}" in findings.text()


def test_numbers_in_words():
    assert (counted(0, "file"), counted(1, "file"), counted(1000, "file")) == ("0 files", "1 file", "1,000 files")


def test_an_item_is_one_line_of_printable_characters():
    findings = Findings()
    findings.problem("broken", "a\nb\x1b[31m.jpg\u202egpj")
    findings.note("odd", "\udcff")
    items = [item for kinds in (findings.problems, findings.notes) for each in kinds.values() for item in each.first]
    assert all(item.isprintable() for item in items)
    assert all(line.isprintable() for line in findings.text().splitlines())
