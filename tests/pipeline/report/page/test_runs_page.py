"""The page of several runs."""

from pipeline.report.page import runs_page


def test_texts_are_escaped_and_drift_is_marked():
    page = runs_page.html(
        {"run": "run", "model": "model"}, [{"run": "<b>", "model": "m"}, {"run": "c", "model": "&"}], ["c"]
    )
    assert "&lt;b&gt;" in page and "<b>" not in page and "<td>&amp;</td>" in page
    assert page.count('<tr class="drifted">') == 1 and "1 of them drifted" in page
    assert "script-src 'none'" in page and "<script" not in page


def test_one_run():
    page = runs_page.html({"run": "run"}, [{"run": "a"}], [])
    assert "<h1>1 run</h1>" in page and "None drifted by more than chance." in page
