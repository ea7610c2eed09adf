"""From released scores to [0,1] and back, in numbers and in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dpiqa_lab as lab
from dpiqa_lab.datasets.scale import Scale, scale_of

ENDS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@pytest.mark.parametrize(
    ("scale", "raw", "score", "formula"),
    [
        (Scale(0, 100, True, "mine"), 15, 0.85, "100 - score * 100"),
        (Scale(1, 5, False, "koniq"), 4, 0.75, "1 + score * 4"),
        (Scale(-100, 100, True, "mine"), 100, 0, "100 - score * 200"),
        (Scale(0.1, 0.123456789, False, "mine"), 0.1, 0, "0.1 + score * 0.023456789"),
    ],
)
def test_known_scores(scale, raw, score, formula):
    assert scale.normalised(raw) == pytest.approx(score)
    assert scale.raw(score) == pytest.approx(raw)
    assert scale.formula == formula
    assert f"MOS = {formula}" in scale.sentence()


@given(ENDS, ENDS, st.booleans(), st.floats(-0.5, 1.5))
def test_back_is_back_in_numbers_and_in_words(a, b, lower_better, score):
    low, high = sorted((a, b))
    if high - low < 0.01:
        return
    scale = Scale(low, high, lower_better, "mine")
    near = pytest.approx(score, abs=1e-6 + 1e-9 * max(abs(low), abs(high)) / (high - low))
    assert scale.normalised(scale.raw(score)) == near
    assert scale.normalised(eval(scale.formula, {"score": score})) == near
    best, worst = scale.raw(1), scale.raw(0)
    assert (best < worst) == lower_better


def test_columns_are_mapped_as_numbers_are(small_folder):
    dataset = lab.load_dataset("folder", small_folder, mos_range=(-100, 100), lower_better=True)
    table, scale = dataset.table, dataset.manifest.scale
    assert np.allclose(scale.raw(table["mos"]), table["mos_raw"])
    assert scale == (-100, 100, True, "photos")
    assert "scores -100 to 100 (lower is better) as mos in [0,1]" in repr(dataset)


def test_what_is_not_recorded_is_not_guessed():
    assert scale_of({"converted_from": "x.pth"}) is None
    early = scale_of({"dataset": "koniq", "mos_range": [1, 5]})
    assert "(MOS from 1 to 5 there); of MOS which end is better is not recorded" in early.sentence()
    assert early.record()["raw_mos"] is None
    with pytest.raises(lab.LabError, match="cannot be mapped back"):
        early.raw(0.5)
    assert early.agrees(Scale(1, 5, True, "koniq"))
    assert not Scale(1, 5, False, "koniq").agrees(Scale(1, 5, True, "koniq"))
    assert not early.agrees(Scale(0, 5, True, "koniq"))
