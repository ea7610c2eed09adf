import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.probing.repeats import (
    best_on_val,
    chosen_on_val,
    label_curve,
    numbered_splits,
    repeat_probe,
    summarize_probes,
)
from dpiqa_lab.ridge import ridge_path


def photographs(n=300, k=40, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, k))
    mos = x @ rng.normal(size=k) + noise * rng.normal(size=n)
    return x, pd.DataFrame({"name": [f"{i}.png" for i in range(n)], "mos": mos, "split": "train"})


@pytest.mark.parametrize("shape", [(60, 8), (20, 50)])
def test_one_decomposition_serves_all_penalties(shape):
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=shape), rng.normal(size=(7, shape[1]))
    x -= x.mean(0)
    y = rng.normal(size=len(x))
    y -= y.mean()
    alphas = np.array([1e-3, 1.0, 1e4])
    expected = np.stack([Ridge(alpha=a).fit(x, y).predict(new) for a in alphas], axis=1)
    assert ridge_path(x, y, new, alphas) == pytest.approx(expected, abs=1e-8)


def test_splits_are_numbered_and_keep_groups_together():
    _, table = photographs()
    table["group"] = np.arange(len(table)) // 6
    splits = numbered_splits(table, 3, seed=5)
    again = numbered_splits(table, 1, seed=6)
    assert splits[1].equals(again[0])
    assert not splits[0].equals(splits[1])
    for parts in splits:
        assert (parts.groupby(table["group"]).nunique() == 1).all()
    with pytest.raises(LabError, match="at least 1, got 0"):
        numbered_splits(table, 0)


def test_a_probe_s_rows_say_what_was_used():
    x, table = photographs()
    rows = repeat_probe(x, table, numbered_splits(table, 3))
    assert rows[["split", "labels", "n"]].to_numpy().tolist() == [[i, 240, 60] for i in range(3)]
    assert rows["srcc"].min() > 0.8
    blind = repeat_probe(
        np.random.default_rng(1).normal(size=x.shape), table, [*numbered_splits(table, 3)]
    )
    assert blind["srcc"].abs().max() < 0.4


def test_the_probe_never_fits_to_test_or_val_photographs():
    x, table = photographs(k=5)
    (parts,) = numbered_splits(table, 1)
    before = repeat_probe(x, table, [parts])
    spoilt = x.copy()
    spoilt[(parts == "test").to_numpy()] = 0
    after = repeat_probe(spoilt, table, [parts])
    assert after[["alpha", "val_srcc"]].equals(before[["alpha", "val_srcc"]])


def test_more_labels_help_where_they_must():
    x, table = photographs(k=60, noise=1.0)
    rows = label_curve(x, table, numbered_splits(table, 5))
    medians = summarize_probes(rows, ["share"])
    assert medians["share"].tolist() == [0.1, 0.3, 1.0]
    assert medians["srcc"].is_monotonic_increasing
    assert medians["srcc"].iloc[2] > medians["srcc"].iloc[0] + 0.2
    assert rows.groupby("share")["labels"].first().tolist() == [24, 72, 240]
    with pytest.raises(LabError, match="above 0"):
        label_curve(x, table, numbered_splits(table, 1), [0.0])


def test_medians_ranges_and_choice_by_hand():
    rows = pd.DataFrame(
        {
            "timestep": [1, 1, 1, 9, 9, 9],
            "tap": "mid_block",
            "split": [0, 1, 2] * 2,
            "labels": 20,
            "n": 10,
            "val_srcc": [0.1, 0.5, 0.2, 0.3, 0.4, np.nan],
            "srcc": [0.0, 0.2, 1.0, 0.6, 0.6, 0.6],
            "plcc": 0.5,
        }
    )
    found = summarize_probes(rows).set_index("timestep")
    assert found.loc[1, "srcc"] == 0.2
    assert found.loc[1, "srcc_low"] == pytest.approx(0.05 * 0.2)
    assert found.loc[1, "srcc_high"] == pytest.approx(0.2 + 0.95 * 0.8)
    assert found.loc[9, ["splits", "srcc_low", "srcc_high"]].tolist() == [3, 0.6, 0.6]
    assert chosen_on_val(rows)["timestep"].tolist() == [9, 1, 1]
    assert best_on_val(rows) == (9, "mid_block")  # 0.35 against 0.2
