"""A report as one page: what a log named is text, whatever it looks like."""

from benchmarks.accuracy.report import as_html
from recmeta.reporting.markdown import table


def test_names_out_of_a_log_are_no_tags() -> None:
    name = '<img src=x onerror="alert(1)">'
    page = as_html(table(["genre", "MAE"], [[name, "0.70"]]) + f"\n\n{name}\n", name, {})
    assert "<img" not in page
    assert page.count("&lt;img src=x") == 3
    assert "<td>&lt;img" in page
    assert '<td style="text-align:right">0.70</td>' in page
