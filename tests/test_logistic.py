import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from dpiqa_lab.metrics import Logistic, bootstrap, fit_logistic, plcc, rmse


def noisy(n: int, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, n)
    return mos + noise * rng.normal(size=n), mos


@pytest.mark.parametrize(
    "true", [Logistic(90, 10, 0.5, 0.08), Logistic(1, 5, -2, 3), Logistic(1e4, 0, 100, 40)]
)
def test_logistic_recovers_its_parameters(true):
    x = np.linspace(true.centre - 4 * true.scale, true.centre + 3 * true.scale, 60)
    fit = fit_logistic(x, true(x))
    assert [fit.high, fit.low, fit.centre, fit.scale] == pytest.approx(
        [true.high, true.low, true.centre, true.scale], rel=1e-4, abs=1e-3
    )
    assert plcc(x, true(x), logistic=True) == pytest.approx(1)
    assert rmse(x, true(x), logistic=True) == pytest.approx(0, abs=1e-4 * abs(true.high - true.low))


def test_logistic_by_hand():
    curve = Logistic(high=5, low=1, centre=2, scale=0.5)
    assert curve([2, 2 + 0.5 * np.log(3), -1e6, 1e6]) == pytest.approx([3, 4, 1, 5])


def test_logistic_raises_plcc_of_a_saturated_curve():
    x = np.random.default_rng(0).normal(size=400)
    y = np.tanh(4 * (x - 1)) + 0.05 * np.random.default_rng(1).normal(size=400)
    assert plcc(x, y) < 0.8 < 0.98 < plcc(x, y, logistic=True)
    # A wild score must not spoil the fit for the others.
    wild, level = np.append(x, 1e6), np.append(y, 1)
    assert plcc(wild, level, logistic=True) > 0.98


@pytest.mark.parametrize("y", [lambda x: 3 * x + 1, lambda x: -x, lambda x: (x > 0.2) * 1.0])
def test_logistic_reaches_its_limits(y):
    x = np.random.default_rng(0).normal(size=200)
    assert plcc(x, y(x), logistic=True) == pytest.approx(1, abs=1e-4)


def test_logistic_is_never_far_below_a_straight_line():
    for seed in range(20):
        x, y = noisy(30, noise=3, seed=seed)
        assert plcc(x, y, logistic=True) > abs(plcc(x, y)) - 1e-3


def test_as_good_as_scipy_from_the_published_start():
    x = np.random.default_rng(3).normal(5, 2, 200)
    y = Logistic(80, 20, 5, 0.8)(x) + np.random.default_rng(4).normal(0, 8, 200)

    def curve(x, high, low, centre, scale):
        return low + (high - low) / (1 + np.exp(-(x - centre) / scale))

    found, _ = curve_fit(curve, x, y, (y.max(), y.min(), x.mean(), x.std()))
    theirs = np.sqrt(np.mean((curve(x, *found) - y) ** 2))
    assert rmse(x, y, logistic=True) == pytest.approx(theirs, rel=1e-4)


numbers = st.lists(st.integers(-1000, 1000), min_size=5, max_size=40)


@settings(deadline=None, max_examples=60)
@given(numbers, st.randoms(use_true_random=False), st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_fit_is_no_worse_than_a_constant_or_says_so(values, random, unit):
    mos = [random.choice(values) for _ in values]  # ties, steps, constants, anything
    x = unit * np.array(values, float)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = fit_logistic(x, mos)
    if not fit.fitted:
        assert caught
        assert np.isnan(fit(x)).all()
    else:
        assert not caught
        assert np.isfinite(fit(x)).all()
        error = np.sqrt(np.mean((fit(x) - mos) ** 2))
        assert error <= np.std(mos) * (1 + 1e-6)


def test_a_curve_that_rounding_leaves_nothing_of_is_not_taken():
    # Found by the test above: the tail of a step of 1e18, on which six scores lay but for rounding.
    x, mos = [0, 136, -580, 0, -277, -567], [0, 0, 136, -580, 0, -277]
    fit = fit_logistic(x, mos)
    assert np.sqrt(np.mean((fit(np.array(x)) - mos) ** 2)) < 0.96 * np.std(mos)
    assert max(abs(fit.high), abs(fit.low)) < 1e12


def test_a_constant_is_said_to_be_why():
    for x, y in (([0.5] * 9, range(9)), (range(9), [3] * 9)):
        with pytest.warns(RuntimeWarning, match="an input that varies"):
            assert np.isnan(rmse(x, y, logistic=True))


def test_a_failed_fit_warns_and_is_nan(monkeypatch):
    with pytest.warns(RuntimeWarning, match="needs 5 photographs"):
        assert not fit_logistic([1, 2, 3, 4], [1, 2, 3, 4]).fitted
    monkeypatch.setattr("dpiqa_lab.logistic._best_fit", lambda x, y: None)
    with pytest.warns(RuntimeWarning, match="no start of the search converged"):
        assert np.isnan(plcc(*noisy(20), logistic=True))
    with pytest.warns(RuntimeWarning):
        assert np.isnan(bootstrap(*noisy(20), ("plcc_logistic",), n=10)["plcc_logistic"]).all()
