import pandas as pd
import pytest

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.viz.figures import two_scores, variant_intervals

TABLE = pd.DataFrame(
    {
        "variant": ["teacher", "labels", "both"],
        "srcc": [0.7, None, 0.6],
        "srcc_low": [0.6, None, 0.5],
        "srcc_high": [0.9, None, 0.65],
    }
)


def test_intervals_span_from_low_to_high_and_gaps_are_left_out():
    figure = variant_intervals(TABLE, "variants")
    (trace,) = figure.data
    assert list(trace.y) == ["teacher", "both"]
    assert list(trace.x + trace.error_x.array) == pytest.approx([0.9, 0.65])
    assert list(trace.x - trace.error_x.arrayminus) == pytest.approx([0.6, 0.5])
    assert figure.layout.yaxis.autorange == "reversed"
    with pytest.raises(LabError, match="no column srcc_high"):
        variant_intervals(TABLE.drop(columns="srcc_high"), "variants")


def test_scores_of_two_models_lie_about_the_line_of_equality():
    rows = {"name": ["<a>", "b"], "mos": [0.1, 0.9], "teacher": [0.2, 0.8], "student": [0.3, 0.5]}
    figure = two_scores(pd.DataFrame(rows), "teacher", "student", "two")
    line, points = figure.data
    assert list(line.x) == list(line.y) == [0.2, 0.8]
    assert (list(points.x), list(points.y)) == ([0.2, 0.8], [0.3, 0.5])
    assert points.text[0] == "&lt;a&gt;"
    assert figure.layout.yaxis.title.text == "Score of the student"
