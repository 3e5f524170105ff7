"""The page of several runs."""

from pipeline.report.page import runs_page


def test_texts_are_escaped_and_drift_is_marked():
    page = runs_page.html(
        {"run": "run", "model": "model"}, [{"run": "<b>", "model": "m"}, {"run": "c", "model": "&"}], ["c"]
    )
    assert "&lt;b&gt;" in page and "<b>" not in page and "<td>&amp;</td>" in page
    assert page.count('<tr class="drifted">') == 1 and "1 of them drifted" in page
    assert "script-src 'none'" in page and "<script" not in page


def test_the_page_of_one_run_is_in_the_singular():
    page = runs_page.html({"run": "run"}, [{"run": "a"}], [])
    assert "<h1>1 run</h1>" in page and "None drifted by more than chance." in page


def test_texts_stay_texts():
    hostile = "<script>1</script>"
    page = runs_page.html({"run": hostile}, [{"run": hostile, "model": hostile}], [])
    assert "<script" not in page and page.count("&lt;script&gt;") == 3


def test_one_run_and_several():
    for count, heading in ((1, "1 run"), (2, "2 runs")):
        page = runs_page.html({"run": "run"}, [{"run": f"r{number}"} for number in range(count)], ["r0"])
        assert f"<h1>{heading}</h1>" in page and "1 of them drifted by more than chance." in page
        assert page.count('<tr class="drifted">') == 1
