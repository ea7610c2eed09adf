"""The tables of an evaluation, from scores that are known."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from dpiqa_lab import metrics
from dpiqa_lab.evaluation.agreement import (
    METRICS,
    agreement,
    calibration,
    differences,
    fitted_curve,
)
from dpiqa_lab.evaluation.error_analysis import disagreements, errors_by_trait, robustness
from dpiqa_lab.evaluation.published_results import compare_with_published


def table(model: str, score, mos, dataset: str = "d", **columns) -> pd.DataFrame:
    names = [f"{i}.jpg" for i in range(len(mos))]
    rows = {"dataset": dataset, "model": model, "name": names, "mos": mos, "score": score}
    return pd.DataFrame({**rows, "subset": "", "group": "", **columns})


def scores(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 1, n)
    good, bad = mos + 0.05 * rng.normal(size=n), mos + rng.normal(size=n)
    parts = {"good": good, "bad": bad, "against": 1 - good, "constant": np.full(n, 0.5)}
    subset = np.where(np.arange(n) % 2, "odd", "even")
    return pd.concat([table(k, v, mos, subset=subset) for k, v in parts.items()])


@pytest.mark.medium
def test_agreement_is_what_scipy_and_the_metrics_say():
    found = agreement(scores(), resamples=100).set_index(["model", "subset"])
    assert list(found.loc["good"].index) == ["all", "even", "odd"]
    rows = scores().query("model == 'good' and subset == 'odd'")
    row = found.loc[("good", "odd")]
    assert row["n"] == row["contents"] == 30
    assert row["srcc"] == pytest.approx(scipy.stats.spearmanr(rows["score"], rows["mos"])[0])
    assert row["krcc"] == pytest.approx(scipy.stats.kendalltau(rows["score"], rows["mos"])[0])
    assert row["plcc"] == pytest.approx(scipy.stats.pearsonr(rows["score"], rows["mos"])[0])
    assert row["rmse"] == pytest.approx(np.sqrt(((rows["score"] - rows["mos"]) ** 2).mean()))
    for name in ("plcc", "rmse"):
        after = getattr(metrics, name)(rows["score"], rows["mos"], logistic=True)
        assert row[f"{name}_logistic"] == pytest.approx(after)
    for metric in METRICS:
        assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]


def test_what_became_of_the_logistic_stands_in_the_table(recwarn):
    found = agreement(scores(), resamples=20).query("subset == 'all'").set_index("model")
    assert found["logistic"]["good"] == "rising"
    assert found["logistic"]["against"] == "falling"
    assert found["plcc_logistic"]["against"] > 0.9 > -0.9 > found["plcc"]["against"]
    assert "an input that varies" in found["logistic"]["constant"]
    assert found.loc["constant", ["srcc", "plcc_logistic", "rmse_logistic"]].isna().all()
    assert found["rmse"]["constant"] > 0
    few = agreement(table("few", [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]), resamples=20)
    assert "needs 5 photographs" in few["logistic"][0]
    assert np.isnan(few["rmse_logistic"][0])
    assert not [w for w in recwarn if "no logistic" in str(w.message)]
    curve, said = fitted_curve(np.array([1.0, 2]), np.array([1.0, 2]))
    assert not curve.fitted
    assert "no logistic fitted to 2 scores" in said


@pytest.mark.medium
def test_what_subsets_account_for_stands_beside_the_whole():
    means = scores().groupby("subset")["mos"].transform("mean")
    found = agreement(scores().assign(subset_mean=means), resamples=100)
    rows = scores().query("model == 'bad'")
    within = metrics.within_subsets(rows["score"], rows["mos"], rows["subset"])
    row = found.set_index(["model", "subset"]).loc[("bad", "all")]
    assert row["within_srcc"] == pytest.approx(within)
    assert row["within_srcc_low"] < within < row["within_srcc_high"]
    oracle = scipy.stats.spearmanr(rows["subset"] == "odd", rows["mos"])[0]
    assert abs(row["oracle_srcc"]) == pytest.approx(abs(oracle))
    assert found.query("subset != 'all'")[["within_srcc", "oracle_srcc"]].isna().all(axis=None)
    unknown = agreement(scores(), resamples=20).query("subset == 'all' and model == 'good'")
    assert unknown["within_srcc"].notna().all()
    assert unknown["oracle_srcc"].isna().all()
    without = agreement(scores().assign(subset=""), resamples=20)
    assert without[["within_srcc", "oracle_srcc"]].isna().all(axis=None)


def test_groups_are_counted_as_contents():
    groups = np.arange(60) // 20
    rows = scores().query("model == 'good'").assign(group=[f"g{g}" for g in groups], subset="")
    assert agreement(rows, resamples=20)["contents"].tolist() == [3]


def test_differences_are_paired_whatever_the_order_of_rows():
    rows = scores().query("model != 'constant'")
    mixed = rows.sample(frac=1, random_state=0).sort_values("model", ascending=False)
    found = differences(mixed, resamples=200).set_index(["a", "b"])
    assert len(found) == 3
    row = found.loc[("good", "bad")]
    good, bad = (rows[rows["model"] == name] for name in ("good", "bad"))
    expected = metrics.srcc(good["score"], good["mos"]) - metrics.srcc(bad["score"], bad["mos"])
    assert row["difference"] == pytest.approx(expected)
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["differs"]
    same = pd.concat([good, good.assign(model="twin")])
    assert (
        differences(same, resamples=50)[["difference", "low", "high"]].iloc[0].tolist() == [0] * 3
    )
    assert not differences(same, resamples=50)["differs"].any()


def test_differences_resample_whole_groups():
    groups = [f"g{i // 10}" for i in range(60)]
    rows = scores().query("model in ('good', 'bad')").assign(group=groups * 2)
    good, bad = (rows[rows["model"] == name] for name in ("good", "bad"))
    arguments = good["score"], bad["score"], good["mos"], "srcc", 200, 0
    found = differences(rows, resamples=200)[["difference", "low", "high"]].iloc[0].tolist()
    assert found == pytest.approx(metrics.bootstrap_difference(*arguments, groups))
    assert found != pytest.approx(metrics.bootstrap_difference(*arguments))


def test_calibration_by_hand():
    mos = np.array([0.1, 0.3, 0.1, 0.3, 0.2, 0.8, 0.6, 0.8, 0.6, 0.7])
    found = calibration(table("m", np.arange(10)[::-1], mos[::-1]))
    assert found["n"].tolist() == [5, 5]
    assert found["score"].tolist() == [2, 7]
    assert found["mos"].tolist() == pytest.approx([0.2, 0.7])
    reach = 1.96 * 0.1 / 5**0.5  # the deviation of each five is 0.1
    assert (found["mos"] - found["mos_low"]).tolist() == pytest.approx([reach] * 2)
    assert calibration(table("m", [1, 1], [0.2, 0.4]))["mos"].tolist() == pytest.approx([0.3])


def test_errors_by_trait_find_where_a_model_fails():
    n = 100
    rng = np.random.default_rng(0)
    mos, dark = rng.uniform(0, 1, n), np.arange(n) < 20
    rows = table("m", np.where(dark, rng.uniform(0, 1, n), mos), mos)
    photographs = pd.DataFrame(
        {
            "dataset": "d", "name": rows["name"], "mos": mos, "sharpness": rng.normal(size=n),
            "brightness": np.where(dark, 0.1, 0.5) + 0.01 * rng.normal(size=n), "megapixels": 0.3,
        }
    )  # fmt: skip
    found = errors_by_trait(rows, photographs).set_index(["trait", "bin"])
    bright = found.loc["brightness"]
    assert bright["n"].tolist() == [20] * 5
    assert bright["distance"][0] > 2 * bright["distance"][1:].max()
    assert bright["distance_low"][0] < bright["distance"][0] < bright["distance_high"][0]
    assert found.loc["megapixels", "n"].tolist() == [100]
    assert not len(errors_by_trait(table("c", [1.0] * n, mos), photographs))


def test_robustness_by_hand():
    clean = table("m", [0, 2, 4, 6], [0, 0, 0, 0])  # deviation sqrt(5)
    names = clean["name"][[2, 0, 3]]
    changes = pd.DataFrame(
        {"dataset": "d", "model": "m", "name": names, "change": "c", "score": [5, -1, 7]}
    )
    (row,) = robustness(clean, changes).to_dict("records")
    assert row["n"] == 3
    assert row["moved"] == pytest.approx(1 / 5**0.5)
    assert row["shift"] == pytest.approx((1 - 1 + 1) / 3 / 5**0.5)
    assert row["srcc"] == 1
    still = robustness(clean.assign(score=1.0), changes)
    assert np.isnan(still["moved"][0])


def test_disagreements_by_hand():
    rows = pd.concat([table("a", [1, 2, 3], [0, 0, 0]), table("b", [30, 10, 20], [0, 0, 0])])
    found = disagreements(rows, 1).iloc[0]
    assert found[["name", "apart", "highest", "lowest"]].tolist() == ["0.jpg", 1.0, "b", "a"]
    assert not len(disagreements(table("a", [1, 2, 3], [0, 0, 0])))


def test_published_results_stand_below_ones_own():
    results = agreement(table("m", [1, 2, 3, 5], [1, 2, 4, 3], "clive"), 10).assign(error="")
    found = compare_with_published(results)
    assert found["method"].tolist()[:2] == ["m", "DP-IQA"]
    assert found["srcc"][0] == pytest.approx(0.8)
    assert (found["dataset"] == "clive").all()
    assert not len(compare_with_published(results.assign(dataset="elsewhere")))
