import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpiqa_lab import metrics
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.metrics import (
    bootstrap,
    bootstrap_difference,
    fit_logistic,
    format_metric,
    krcc,
    plcc,
    rmse,
    srcc,
    subset_means,
    subset_oracle,
    summary,
    within_subsets,
)


def noisy(n: int, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n)
    return mos + noise * rng.normal(size=n), mos


# Known answers


def test_srcc_with_ties_by_hand():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    assert srcc([1, 2, 2, 3], [10, 20, 30, 40]) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_krcc_of_four_points_by_hand():
    # Of the six pairs only (2, 3) is in the other order: (5 - 1) / 6.
    assert krcc([1, 3, 2, 4], [1, 2, 3, 4]) == pytest.approx(4 / 6)


def test_krcc_with_ties_by_hand():
    # Six pairs: one tied in pred, the five others in order: tau-b is 5 / sqrt(5 * 6).
    assert krcc([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(5 / np.sqrt(5 * 6))


def test_reversed_predictions_keep_their_sign_but_after_the_logistic():
    x, y = np.arange(20.0), 100 - np.arange(20.0)
    assert srcc(x, y) == krcc(x, y) == -1
    assert plcc(x, y) == pytest.approx(-1)
    assert plcc(x, y, logistic=True) == pytest.approx(1, abs=1e-4)
    assert rmse(x, y, logistic=True) < 0.1 < rmse(x, y)


def test_plcc_and_rmse_by_hand():
    assert plcc([0, 1, 2], [0, 1, 5]) == pytest.approx(5 / np.sqrt(2 * 14))
    assert rmse([1, 2, 3], [1, 4, 3]) == pytest.approx(np.sqrt(4 / 3))
    assert rmse([2.0], [1.0]) == 1


@pytest.mark.parametrize("decimals", [0, 6])
def test_agreement_with_scipy(decimals):
    x, y = (values.round(decimals) for values in noisy(200))
    assert srcc(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert krcc(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert plcc(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic)


distinct = st.lists(st.integers(-50, 50), min_size=3, max_size=30, unique=True)


@settings(deadline=None)
@given(distinct, st.randoms(use_true_random=False))
def test_rank_correlations_ignore_a_monotone_change(x, random):
    y = x[:]
    random.shuffle(y)
    stretched = np.exp(np.array(x) / 25.0)
    assert srcc(stretched, y) == pytest.approx(srcc(x, y))
    assert krcc(stretched, y) == pytest.approx(krcc(x, y))
    assert srcc(-stretched, y) == pytest.approx(-srcc(x, y))


def test_tensors_lists_and_arrays_alike():
    x, y = noisy(20)
    tensor = torch.tensor(x, requires_grad=True)
    assert srcc(tensor, list(y)) == srcc(x, torch.tensor(y))
    assert srcc(torch.tensor([1, 2, 3], dtype=torch.bfloat16), [1, 2, 3]) == 1


# Undefined and refused


@pytest.mark.parametrize("metric", [srcc, krcc, plcc, metrics._POINT["plcc_logistic"]])
@pytest.mark.parametrize(
    ("pred", "mos"),
    [([1] * 9, range(9)), (range(9), [2.5] * 9), ([0.1 + 0.2, 0.3, 0.3], [1, 2, 3]), ([1, 2],) * 2],
)
def test_undefined_is_nan_without_a_warning(metric, pred, mos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(metric(pred, mos))


@pytest.mark.parametrize(
    ("pred", "mos", "message"),
    [
        ([1, np.nan, 3], [1, 2, 3], "pred is nan at row 1"),
        ([1, 2, 3], [1, 2, np.inf], "mos is inf at row 2"),
        ([1, 2, 3], [1, 2], "3 in pred but 2 in mos"),
        ([[1], [2], [3]], [1, 2, 3], r"pred has shape \(3, 1\)"),
        (["good", "bad"], [1, 2], "pred is not a sequence of numbers"),
    ],
)
def test_bad_input_is_named(pred, mos, message):
    for function in (srcc, krcc, plcc, rmse, fit_logistic, bootstrap, summary):
        with pytest.raises(LabError, match=message):
            function(pred, mos)


def test_unknown_metric_and_wrong_groups():
    with pytest.raises(LabError, match="Did you mean 'srcc'"):
        bootstrap(*noisy(5), metrics=("srocc",))
    with pytest.raises(LabError, match="4 labels"):
        bootstrap(*noisy(5), groups=[1, 2, 3, 4])
    with pytest.raises(LabError, match="missing"):
        bootstrap(*noisy(3), groups=["a", None, "b"])


# Intervals


@pytest.mark.parametrize("metric", ["srcc", "plcc", "rmse"])
def test_resamples_are_what_the_metric_gives_for_repeated_rows(metric):
    x, y = (values.round(1) for values in noisy(40))
    counts = next(metrics._resamples(40, None, 25, seed=3))
    assert counts.sum(axis=1).tolist() == [40] * 25
    rows = [np.repeat(np.arange(40), count.astype(int)) for count in counts]
    expected = [metrics._POINT[metric](x[row], y[row]) for row in rows]
    assert metrics._many(metric, x, y)(counts) == pytest.approx(np.array(expected))


def test_bootstrap_is_settled_by_its_seed_whatever_the_chunks(monkeypatch):
    names = ("srcc", "plcc", "rmse", "krcc", "plcc_logistic", "rmse_logistic")
    whole = bootstrap(*noisy(30), names, n=50, seed=7)
    monkeypatch.setattr(metrics, "_CHUNK", 30 * 7)
    chunked = bootstrap(*noisy(30), names, n=50, seed=7)
    assert {name: pytest.approx(whole[name]) for name in names} == chunked
    assert bootstrap(*noisy(30), names, n=50, seed=8) != chunked


def test_bootstrap_covers_the_true_correlation():
    true = 0.6
    hits = 0
    for seed in range(200):
        x, z = np.random.default_rng(seed).normal(size=(2, 150))
        interval = bootstrap(x, true * x + np.sqrt(1 - true**2) * z, ("plcc",), 200, seed)["plcc"]
        hits += interval[0] <= true <= interval[1]
    assert 0.88 <= hits / 200 <= 0.99


def test_one_logistic_for_all_resamples_is_as_good_as_refitting():
    x, mos = noisy(300, noise=1)
    y = np.tanh(mos - 2)
    rows = np.random.default_rng(0).integers(300, size=(100, 300))
    refitted = [plcc(x[row], y[row], logistic=True) for row in rows]
    low, high = bootstrap(x, y, ("plcc_logistic",))["plcc_logistic"]
    assert np.quantile(refitted, (0.025, 0.975)) == pytest.approx([low, high], abs=0.01)


def test_groups_widen_the_interval_of_clustered_data():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), rng.integers(5, 40, 20))
    x, y = (rng.normal(size=(20, 2))[groups] + 0.1 * rng.normal(size=(len(groups), 2))).T
    rows, contents = (
        bootstrap(x, y),
        bootstrap(x, y, groups=torch.tensor([hash(g) for g in groups])),
    )
    for name in rows:
        assert np.ptp(contents[name]) > 2 * np.ptp(rows[name])


def test_each_row_its_own_group_is_no_group():
    assert bootstrap(*noisy(30), groups=range(30)) == bootstrap(*noisy(30))


def test_no_interval_where_nothing_can_be_resampled():
    for interval in (bootstrap([1, 2], [1, 2]), bootstrap(*noisy(9), groups=["one"] * 9)):
        assert np.isnan(interval["srcc"]).all()
    assert np.isnan(bootstrap([1] * 9, range(9))["plcc"]).all()


def test_paired_difference():
    good, mos = noisy(200, noise=0.3)
    bad, _ = noisy(200, noise=2, seed=1)
    assert bootstrap_difference(good, good, mos) == (0, 0, 0)
    difference, low, high = bootstrap_difference(good, good + bad, mos, "plcc")
    assert difference == plcc(good, mos) - plcc(good + bad, mos)
    assert 0 < low < difference < high


def test_differences_of_several_trainings_are_those_of_their_means():
    rng = np.random.default_rng(0)
    mos = rng.random(60)
    a, b = (mos + spread * rng.normal(size=(3, 60)) for spread in (0.3, 0.6))
    difference, low, high = bootstrap_difference(a, b, mos, n=400)
    singles = [[srcc(row, mos) for row in rows] for rows in (a, b)]
    assert difference == pytest.approx(np.mean(singles[0]) - np.mean(singles[1]))
    counts = np.random.default_rng(0).integers(60, size=(400, 60))
    drawn = [
        np.mean([scipy.stats.spearmanr(row[c], mos[c])[0] for row in a])
        - np.mean([scipy.stats.spearmanr(row[c], mos[c])[0] for row in b])
        for c in counts
    ]
    assert (low, high) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.02)
    assert bootstrap_difference(a[:1], b[0], mos) == bootstrap_difference(a[0], b[0], mos)


def test_summary():
    x, y = noisy(100)
    result = summary(x, y, groups=np.arange(100) // 4)
    assert result["n"] == 100
    for name in ("srcc", "plcc", "plcc_logistic", "rmse"):
        low, high = result[f"{name}_ci"]
        assert low < result[name] < high
    assert result["krcc"] == krcc(x, y)
    assert result == summary(x, y, groups=np.arange(100) // 4)


def test_a_measure_is_said_also_where_it_is_undefined():
    assert format_metric(0.12345) == "0.123"
    assert [format_metric(value) for value in (float("nan"), None, srcc([1, 1, 1], [1, 2, 3]))] == [
        "undefined"
    ] * 3


# Subsets


def test_agreement_within_subsets_by_hand():
    # In order in a, reversed in b, a pair in c, which says nothing: (3 * 1 + 5 * -1) / 8.
    subsets = list("aaabbbbbcc")
    pred = [1, 2, 3, 5, 4, 3, 2, 1, 1, 2]
    mos = [11, 12, 13, 1, 2, 3, 4, 5, 9, 8]
    assert within_subsets(pred, mos, subsets) == pytest.approx(-0.25)
    assert within_subsets(pred, mos, subsets, "krcc") == pytest.approx(-0.25)
    # Constant within c, whatever the others: left out too.
    pred, mos, subsets = [*pred, 1, 1, 1], [*mos, 1, 2, 3], [*subsets, "d", "d", "d"]
    assert within_subsets(pred, mos, subsets) == pytest.approx(-0.25)
    assert np.isnan(within_subsets([1, 2, 1, 2], [1, 2, 1, 2], list("aabb")))


def test_what_tells_subsets_apart_is_no_agreement_within_them():
    rng = np.random.default_rng(0)
    subsets = np.repeat([0, 1, 2], 200)
    pred, mos = 10 * subsets + rng.normal(size=(2, 600))
    assert srcc(pred, mos) > 0.85
    assert abs(within_subsets(pred, mos, subsets)) < 0.1


def test_the_interval_within_subsets_is_that_of_a_plain_loop():
    x, mos = noisy(40)
    subsets = np.arange(40) % 3
    rows = np.random.default_rng(0).integers(40, size=(200, 40))
    drawn = []
    for row in rows:
        parts = [row[subsets[row] == subset] for subset in range(3)]
        found = [scipy.stats.spearmanr(x[part], mos[part])[0] for part in parts]
        drawn.append(np.average(found, weights=list(map(len, parts))))
    expected = tuple(np.quantile(drawn, [0.025, 0.975]))
    found = bootstrap(x, mos, ("srcc",), 200, within=subsets)["srcc"]
    assert found == pytest.approx(expected)
    for name, ends in bootstrap(x, mos, within=["all"] * 40).items():
        assert ends == pytest.approx(bootstrap(x, mos)[name])
    difference, low, high = bootstrap_difference(mos, x, mos, n=200, within=subsets)
    assert difference == pytest.approx(1 - within_subsets(x, mos, subsets))
    assert (low, high) == pytest.approx((1 - expected[1], 1 - expected[0]))


def test_the_subset_s_mean_in_train_by_hand():
    means = subset_means(list("abbc"), [1, 3, 4, 8], list("aabb"))
    assert means.tolist() == [2, 6, 6, 4]  # c is not in train: the mean of all of it
    # Ranks 1, 3.5, 3.5, 2 against 1 to 4: covariance 1.5, variances 4.5 and 5.
    oracle = subset_oracle(means, [10, 20, 30, 40])
    assert oracle["srcc"] == pytest.approx(1.5 / np.sqrt(4.5 * 5))
    assert oracle["n"] == 4
    assert oracle["srcc_ci"][0] <= oracle["srcc"] <= oracle["srcc_ci"][1]


def test_subsets_that_do_not_fit_are_refused():
    with pytest.raises(LabError, match="subsets has 2 labels"):
        within_subsets([1, 2, 3], [1, 2, 3], ["a", "b"])
    with pytest.raises(LabError, match="metric"):
        within_subsets([1, 2, 3], [1, 2, 3], list("aaa"), "nothing")
