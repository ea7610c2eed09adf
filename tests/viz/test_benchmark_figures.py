import pandas as pd
import pytest

from dpiqa_lab import LabError, figures

STAGES = pd.DataFrame(
    {
        "stage": ["decode image", "U-Net"],
        "seconds": [0.01, 0.5],
        "floor": [0.0, 0.2],
        "share": [0.0, 0.4],
        "products": [0.0, 0.7],
        "elementwise": [0.0, 0.2],
        "copies": [0.0, 0.05],
        "outside": [1.0, 0.05],
    }
)


def test_a_stage_s_bar_is_its_time_and_the_floor_stands_where_there_is_one():
    *parts, floor = figures.stage_bars(STAGES, "float32").data
    lengths = pd.DataFrame([part.x for part in parts], columns=parts[0].y).sum()
    assert lengths.to_dict() == pytest.approx({"decode image": 10, "U-Net": 500})
    assert list(floor.y) == ["U-Net"]
    assert list(floor.x) == [200]


def test_ratios_are_coloured_by_precision():
    ratios = pd.DataFrame(
        {
            "what": ["first", "again", "again"],
            "plain": ["float32"] * 3,
            "lab": ["float32", "float32", "bfloat16"],
            "ratio": [1.2, 2.4, 5.0],
        }
    )
    same, other = figures.speed_bars(ratios, "ratios").data
    assert list(same.x) == [1.2, 2.4]
    assert list(other.y) == ["again"]
    assert other.name == "lab in bfloat16, plain in float32"


def test_a_line_a_pass_precision_and_way():
    passes = pd.DataFrame(
        {
            "what": ["score", "score", "score", "step"],
            "precision": ["float32", "float32", "bfloat16", "float32"],
            "batch": [1, 16, 16, 1],
            "compiled": [False, False, True, False],
            "rate": [2.0, 3.0, 9.0, 1.0],
        }
    )
    plain, compiled, step = figures.rate_lines(passes, "rates").data
    assert (list(plain.x), list(plain.y)) == ([1, 16], [2, 3])
    assert compiled.name == "score, bfloat16, compiled"
    assert plain.line.color == compiled.line.color != step.line.color
    assert plain.line.dash != compiled.line.dash


@pytest.mark.parametrize("figure", [figures.stage_bars, figures.speed_bars, figures.rate_lines])
def test_a_missing_column_is_named(figure):
    with pytest.raises(LabError, match="no column"):
        figure(pd.DataFrame({"stage": [], "what": []}), "")
