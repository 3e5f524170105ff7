"""Charts as SVG."""

import re

from pipeline.report.page.charts import Part, columns, legend, span_bar, stacked_bar


def test_the_parts_of_a_bar_fill_it():
    bar = stacked_bar([Part("a", "A", 1), Part("b", "B", 0), Part("c", "<C>", 3)], 'said "so"')
    widths = [float(width) for width in re.findall(r'<rect class="\w" x="[\d.]+%" width="([\d.]+)%"', bar)]
    assert widths == [25, 75] and "&lt;C&gt;" in bar and 'aria-label="said &quot;so&quot;"' in bar
    assert "rect" not in stacked_bar([Part("a", "A", 0)], "none")


def test_each_part_of_a_bar_begins_where_the_one_before_it_ends():
    bar = stacked_bar([Part("a", "A", 1), Part("b", "B", 2), Part("c", "C", 1)], "three")
    assert re.findall(r' x="([\d.]+)%"', bar) == ["0.000", "25.000", "75.000"]


def test_a_span_lies_within_its_line():
    for start, end, total in ((1, 3, 4), (0, 9, 4), (4, 4, 4), (-1, 0, 0)):
        left, width = map(
            float, re.search(r'"work" x="([\d.]+)%" width="([\d.]+)%"', span_bar(start, end, total)).groups()
        )
        assert 0 <= left <= 99.2 and width >= 0.8


def test_the_highest_column_is_as_high_as_the_chart():
    heights = re.findall(r'height="([\d.]+)%"', columns([1, 4, 2], "speed"))
    assert heights == ["25.00", "100.00", "50.00"]
    assert "rect" not in columns([], "none")


def test_a_legend_leaves_out_what_did_not_happen():
    shown = legend([Part("a", "failed", 1200), Part("b", "reused", 0)], {"failed": "1.2 k"})
    assert shown.count("<li>") == 1 and "<b>1.2 k</b> failed" in shown


def test_labels_stay_text():
    parts = [Part("a", "<script>", 1)]
    charts = (
        stacked_bar(parts, "<script>"),
        columns([1], "<script>"),
        legend(parts),
        legend(parts, {"<script>": "<script>"}),
    )
    assert [chart.count("&lt;script&gt;") for chart in charts] == [2, 1, 1, 2]
    assert not any("<script" in chart for chart in charts)


def test_columns_stand_side_by_side():
    places = [float(place) for place in re.findall(r' x="([\d.]+)%"', columns([1, 2, 3, 4], "speed"))]
    tops = [float(top) for top in re.findall(r' y="([\d.]+)%"', columns([1, 2, 3, 4], "speed"))]
    assert places == [0, 25, 50, 75] and tops == [75, 50, 25, 0]


def test_a_span_that_ends_behind_its_line_makes_the_line_longer():
    left, width = map(float, re.search(r'"work" x="([\d.]+)%" width="([\d.]+)%"', span_bar(4, 8, 5)).groups())
    assert (left, width) == (50, 50)
